//! Tags of the stand-in image in the cluster's registry. They let one image disappear while all
//! others stay.

use serde_json::Value;

use crate::scene::Scene;

const REGISTRY: &str =
    "/api/v1/namespaces/kube-system/services/registry:http/proxy/v2/chentex/random-logger/manifests";

/// Gives the stand-in image another tag: the namespace's name.
pub fn add(scene: &Scene) {
    let any =
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    let manifest = scene.raw("GET", &format!("{REGISTRY}/latest"), any, Vec::new());
    let parsed: Value = serde_json::from_str(&manifest).unwrap();
    let kind = parsed["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
    scene.raw("PUT", &format!("{REGISTRY}/{}", scene.namespace.name), kind, manifest.into_bytes());
}

/// Removes that tag. The node keeps what it has pulled, and nothing can pull by the tag any more.
pub fn remove(scene: &Scene) {
    scene.raw("DELETE", &format!("{REGISTRY}/{}", scene.namespace.name), "*/*", Vec::new());
}
