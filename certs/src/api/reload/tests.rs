//! Tests with real directories, which are swapped as the kubelet does it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::x509::certificate::Pair;
use crate::x509::issue::tests::{DAY, START, at, ca, serving};

/// A directory that is removed at the end, however the test ends.
struct Mount(PathBuf);

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Mount {
    fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("certs-reload-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Swaps the files as the kubelet's AtomicWriter does: make a new directory, rename a new
    /// `..data` over the old one, remove the old directory.
    fn swap(&self, version: u32, certificate: &str, key: &str) {
        let directory = self.0.join(format!("..version_{version}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(SERVING_CERTIFICATE), certificate).unwrap();
        fs::write(directory.join(SERVING_KEY), key).unwrap();
        let (data, next) = (self.0.join("..data"), self.0.join("..data_tmp"));
        let old = fs::read_link(&data).ok();
        symlink(directory.file_name().unwrap(), &next).unwrap();
        fs::rename(&next, &data).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.0.join(old)).unwrap();
        }
        for name in [SERVING_CERTIFICATE, SERVING_KEY] {
            let link = self.0.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
    }

    fn put(&self, version: u32, pair: &Pair) {
        self.swap(version, &pair.certificate().pem(), pair.key_pem());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn pairs() -> [Pair; 2] {
    let ca = ca(START, 10 * DAY);
    [serving(&ca, START, DAY), serving(&ca, START, 2 * DAY)]
}

#[test]
fn loads_when_it_comes_and_again_when_it_changes() {
    let (mount, serving, [first, second]) = (Mount::new(), Serving::default(), pairs());
    let mut directory = Directory::new(mount.0.clone());
    assert!(matches!(directory.take_over(&serving), Change::Kept(LoadError::Read(..))));
    assert!(matches!(directory.take_over(&serving), Change::None), "said once");
    assert!(!serving.is_loaded() && serving.not_after().is_none());
    mount.put(1, &first);
    assert!(matches!(directory.take_over(&serving), Change::Loaded(_)));
    assert!(serving.is_loaded());
    assert!(matches!(directory.take_over(&serving), Change::None));
    mount.put(2, &second);
    assert!(matches!(directory.take_over(&serving), Change::Loaded(_)));
    assert_eq!(serving.not_after(), Some(at(START + 2 * DAY as i64)));
    mount.put(3, &second);
    assert!(matches!(directory.take_over(&serving), Change::None), "the same content under a new version");
}

#[test]
fn whatever_is_wrong_the_last_good_pair_stays() {
    let (mount, serving, [good, other]) = (Mount::new(), Serving::default(), pairs());
    let mut directory = Directory::new(mount.0.clone());
    mount.put(0, &good);
    assert!(matches!(directory.take_over(&serving), Change::Loaded(_)));
    let (pem, key) = (good.certificate().pem(), good.key_pem());
    let other_pem = other.certificate().pem();
    let wrong: [(&str, &str, &str); 6] = [
        ("emptied", "", ""),
        ("no certificate", "", key),
        ("no key", &pem, ""),
        ("half a certificate", &pem[..pem.len() / 2], key),
        ("half a key", &pem, &key[..key.len() / 2]),
        ("another certificate's key", &other_pem, key),
    ];
    for (version, (what, certificate, key)) in (1..).zip(wrong) {
        mount.swap(version, certificate, key);
        match directory.take_over(&serving) {
            Change::Kept(error) => {
                let text = format!("{error:?}") + &format!("{:#}", anyhow::Error::from(error));
                assert!(!good.key_pem().lines().any(|line| text.contains(line)), "{what}: {text}");
            }
            change => panic!("{what}: {change:?}"),
        }
        assert_eq!(serving.not_after(), Some(good.certificate().not_after()), "{what}");
        assert!(matches!(directory.take_over(&serving), Change::None), "{what}: said once");
    }
    fs::remove_file(mount.0.join("..data")).unwrap();
    assert!(matches!(directory.take_over(&serving), Change::Kept(LoadError::Read(..))), "Secret deleted");
    assert!(serving.is_loaded());
    mount.put(99, &other);
    assert!(matches!(directory.take_over(&serving), Change::Loaded(_)), "and it goes on");
}

#[test]
fn a_plain_directory_will_do() {
    let (mount, serving, [pair, _]) = (Mount::new(), Serving::default(), pairs());
    fs::write(mount.0.join(SERVING_CERTIFICATE), pair.certificate().pem()).unwrap();
    fs::write(mount.0.join(SERVING_KEY), pair.key_pem()).unwrap();
    assert!(matches!(Directory::new(mount.0.clone()).take_over(&serving), Change::Loaded(_)));
}

#[test]
fn a_chain_is_presented_whole() {
    let ca = ca(START, 10 * DAY);
    let leaf = crate::x509::issue::tests::serving(&ca, START, DAY);
    let chain = leaf.certificate().pem() + &ca.certificate().pem();
    let serving = Serving::default();
    let not_after = serving.load(chain.as_bytes(), leaf.key_pem().as_bytes()).unwrap();
    assert_eq!(not_after, leaf.certificate().not_after(), "the leaf's, not the CA's");
    assert_eq!(serving.current.load().as_ref().unwrap().key.cert.len(), 2);
}

/// This test fails if the files are read through their own symlinks: certificate and key then come
/// from two versions.
#[test]
fn a_pair_is_never_torn() {
    let (mount, serving, [first, second]) = (Mount::new(), Serving::default(), pairs());
    mount.put(0, &first);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                mount.put(version, if version % 2 == 0 { &first } else { &second });
                if end.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut directory = Directory::new(mount.0.clone());
        let mut loads = 0;
        // Enough swaps to meet a read in the middle, however slow this machine is. Some hundred
        // reads go to each swap.
        for _ in 0..1_000_000 {
            if loads == 300 {
                break;
            }
            match directory.take_over(&serving) {
                Change::Loaded(_) => loads += 1,
                Change::None => {}
                // Three swaps during one read give no pair, but no wrong pair either.
                Change::Kept(LoadError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                Change::Kept(error) => {
                    end.store(true, Ordering::Relaxed);
                    panic!("{error:?}");
                }
            }
        }
        end.store(true, Ordering::Relaxed);
        assert_eq!(loads, 300);
    });
}

#[tokio::test(start_paused = true)]
async fn the_loop_looks_every_second_until_the_end() {
    let (mount, serving, [first, second]) = (Mount::new(), Arc::new(Serving::default()), pairs());
    let end = CancellationToken::new();
    let task = tokio::spawn(keep_loaded(Arc::clone(&serving), mount.0.clone(), end.clone()));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!serving.is_loaded());
    mount.put(1, &first);
    tokio::time::sleep(INTERVAL).await;
    assert!(serving.is_loaded());
    mount.put(2, &second);
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(serving.not_after(), Some(second.certificate().not_after()));
    end.cancel();
    task.await.unwrap().unwrap();
}
