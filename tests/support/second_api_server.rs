//! The second API server of the local cluster. The agent can be moved to it and back.

use std::process::Command;

use kube::Client;

use crate::audit::folder;
use crate::cluster::{Output, kubectl, object, run};
use crate::repository::root;

/// Runs the script that starts and stops the second API server.
fn second_api_server(act: &str) {
    let name = folder().file_name().unwrap().to_string_lossy().into_owned();
    let mut script = Command::new(root().join("hack/cluster/second-apiserver.sh"));
    let output = run(script.arg(act).env("NAME", name));
    print!("{}", output.succeeds());
}

/// The second API server. The drop moves the agent back to the first one, whatever happens.
pub struct Second;

impl Second {
    /// Starts the second API server.
    pub fn start() -> Self {
        second_api_server("start");
        Self
    }

    /// Its kubeconfig.
    pub fn kubeconfig() -> String {
        folder().join("kubeconfig-second").to_string_lossy().into_owned()
    }

    /// Makes the agent use this API server.
    pub fn takes_the_agent(&self) {
        let address =
            object(&["node", "node"])["status"]["addresses"][0]["address"].as_str().unwrap().to_owned();
        Self::set_agent(&[&format!("KUBERNETES_SERVICE_HOST={address}"), "KUBERNETES_SERVICE_PORT=6444"])
            .succeeds();
        Self::agent_is_rolled_out();
    }

    /// Makes the agent use the first API server again.
    pub fn gives_the_agent_back(&self) {
        Self::set_agent(&["KUBERNETES_SERVICE_HOST-", "KUBERNETES_SERVICE_PORT-"]).succeeds();
        Self::agent_is_rolled_out();
    }

    fn set_agent(variables: &[&str]) -> Output {
        kubectl(&[&["-n", "pure-chaos", "set", "env", "deployment/agent"], variables].concat())
    }

    fn agent_is_rolled_out() {
        kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment/agent", "--timeout=60s"]).succeeds();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let back = Self::set_agent(&["KUBERNETES_SERVICE_HOST-", "KUBERNETES_SERVICE_PORT-"]);
        if !back.ok {
            eprintln!("the agent still uses the second API server: {}", back.stderr);
        }
        second_api_server("stop");
    }
}

/// A client for a kubeconfig.
pub async fn client(kubeconfig: &str) -> Client {
    // This fails if another test of this process has installed it.
    runtime::process::install_tls_provider().ok();
    runtime::client::connect(Some(kubeconfig.as_ref())).await.unwrap()
}
