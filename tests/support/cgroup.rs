//! A cgroup with a memory limit, like that of a container. The kernel kills a process in it that
//! takes more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The cgroup. Dropping this value removes it, after the processes in it have ended.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a cgroup with a limit of this many bytes, of version 1 or 2.
    ///
    /// # Errors
    /// Why this machine can't have one, such as because the test doesn't run as root.
    pub fn with_memory(bytes: u64) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pure-chaos-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let first = Path::new("/sys/fs/cgroup/memory");
        let (folder, limits) = if first.is_dir() {
            (first.join(name), [("memory.limit_in_bytes", bytes), ("memory.swappiness", 0)])
        } else {
            (Path::new("/sys/fs/cgroup").join(name), [("memory.max", bytes), ("memory.swap.max", 0)])
        };
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let cgroup = Self(folder);
        for (file, value) in limits {
            let file = cgroup.0.join(file);
            std::fs::write(&file, value.to_string())
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(cgroup)
    }

    /// A command that joins the cgroup and then becomes `program`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$1\" && shift && exec \"$@\"", "sh"]);
        command.arg(self.0.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).ok();
    }
}
