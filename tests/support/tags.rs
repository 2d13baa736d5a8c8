//! Tags of the stand-in image in the cluster's registry. They let one image disappear while all
//! others stay.

use std::process::Command;

use serde_json::Value;

use crate::cluster::run;
use crate::manifests::registry;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// Gives the stand-in image another tag, with a manifest of its own. Returns the manifest's digest.
pub fn add(tag: &str) -> String {
    let accept = format!("Accept: {OCI}, application/vnd.docker.distribution.manifest.v2+json");
    let mut manifest: Value = serde_json::from_str(&curl(&["--header", &accept], "latest")).unwrap();
    let kind = manifest["mediaType"].as_str().unwrap_or(OCI).to_owned();
    // The registry deletes manifests and no tags, so no other tag may have the same manifest.
    manifest["annotations"] = serde_json::json!({"tag": tag});
    let (kind, manifest) = (format!("Content-Type: {kind}"), manifest.to_string());
    let put = ["--request", "PUT", "--header", &kind, "--data", &manifest];
    curl(&[&put[..], &["--write-out", "%header{docker-content-digest}"]].concat(), tag)
}

/// Removes the manifest with this digest, and so its tag. The node keeps what it has pulled, and
/// nothing can pull by the tag any more.
pub fn remove(digest: &str) {
    curl(&["--request", "DELETE"], digest);
}

fn curl(arguments: &[&str], reference: &str) -> String {
    let address = format!("http://{}/v2/chentex/random-logger/manifests/{reference}", registry());
    let always = ["--silent", "--show-error", "--fail", "--max-time", "10"];
    run(Command::new("curl").args(always).args(arguments).arg(address)).succeeds()
}
