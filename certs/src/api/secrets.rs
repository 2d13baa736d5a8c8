//! Reads and writes the Secrets.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use runtime::client::{CallError, call};

use crate::rotation::observed::Data;

/// The Secret with the CA and its key. Only `certs` can read it.
pub const CA_SECRET: &str = "certs-ca";
/// The Secret with the serving certificate, which the webhook mounts.
pub const SERVING_SECRET: &str = "webhook-tls";
/// The Secret with the keys of the secret path, which the webhook also mounts.
pub const PATH_SECRET: &str = "webhook-path";
/// The field manager of `certs`, as `metadata.managedFields` shows it.
pub(crate) const MANAGER: &str = "pure-chaos-certs";

/// A failed call to the API server. The error never contains data of a Secret.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {object}{}", self.advice())]
pub struct Failure {
    pub(crate) verb: &'static str,
    pub(crate) object: String,
    pub(crate) source: CallError,
}

impl Failure {
    fn advice(&self) -> &'static str {
        match (self.source.code(), self.verb) {
            (Some(403), _) => " (give the account of certs the rights in manifests/base/rbac-certs.yaml)",
            (Some(404), "create") => " (create the namespace)",
            (Some(422), "update") => " (delete it; certs makes it again)",
            _ => "",
        }
    }
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// The API server stored the write.
    Done,
    /// Somebody else wrote first, so read and plan again.
    Conflict,
}

/// Turns the answer to a write into a result. A conflict is a result, not an error.
pub(crate) fn written<T>(
    verb: &'static str,
    object: String,
    outcome: Result<T, CallError>,
) -> Result<Written, Failure> {
    match outcome {
        Ok(_) => Ok(Written::Done),
        Err(source) if source.code() == Some(409) => Ok(Written::Conflict),
        // The object existed when it was read, so somebody has deleted it since.
        Err(source) if source.code() == Some(404) && verb != "create" => Ok(Written::Conflict),
        Err(source) => Err(Failure { verb, object, source }),
    }
}

/// Turns the answer to a read into a result. A missing object is a result, not an error.
pub(crate) fn found<T>(object: String, outcome: Result<T, CallError>) -> Result<Option<T>, Failure> {
    match outcome {
        Ok(object) => Ok(Some(object)),
        Err(source) if source.code() == Some(404) => Ok(None),
        Err(source) => Err(Failure { verb: "read", object, source }),
    }
}

/// A Secret as it was read.
#[derive(Clone)]
pub struct Found {
    secret: Secret,
    data: Data,
}

impl Found {
    /// Returns the data of the Secret.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Returns the value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.secret.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the Secret without an annotation, to be written.
    #[must_use]
    pub fn without_annotation(mut self, key: &str) -> Self {
        if let Some(annotations) = &mut self.secret.metadata.annotations {
            annotations.remove(key);
        }
        self
    }
}

/// Access to the Secrets of one namespace.
#[derive(Clone)]
pub struct Store {
    namespace: String,
    secrets: Api<Secret>,
}

impl Store {
    /// Creates the access to the Secrets of `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), secrets: Api::namespaced(client, namespace) }
    }

    /// Returns the name of the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads a Secret. Returns `None` if there is none of this name.
    ///
    /// # Errors
    /// Returns an error if the API server fails or refuses.
    pub async fn read(&self, name: &str) -> Result<Option<Found>, Failure> {
        let secret = found(self.object(name), call(self.secrets.get(name)).await)?;
        Ok(secret.map(|mut secret| {
            let data = secret.data.take().unwrap_or_default();
            Found { secret, data: data.into_iter().map(|(key, ByteString(value))| (key, value)).collect() }
        }))
    }

    /// Writes keys of a Secret. Other keys, labels and annotations stay as they were read. If the
    /// Secret did not exist, it is created with type `kind`. The write is a conflict if the Secret
    /// has changed since it was read.
    ///
    /// # Errors
    /// Returns an error if the API server fails or refuses.
    pub async fn write(
        &self,
        name: &str,
        kind: &str,
        read: Option<Found>,
        data: Data,
    ) -> Result<Written, Failure> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let bytes = |data: Data| data.into_iter().map(|(key, value)| (key, ByteString(value)));
        match read {
            Some(Found { mut secret, data: mut all }) => {
                all.extend(data);
                secret.data = Some(bytes(all).collect());
                let outcome = call(self.secrets.replace(name, &params, &secret)).await;
                written("update", self.object(name), outcome)
            }
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(name.to_owned()),
                        labels: Some([("app.kubernetes.io/component".to_owned(), "certs".to_owned())].into()),
                        ..ObjectMeta::default()
                    },
                    type_: Some(kind.to_owned()),
                    data: Some(bytes(data).collect()),
                    ..Secret::default()
                };
                let outcome = call(self.secrets.create(&params, &secret)).await;
                written("create", self.object(name), outcome)
            }
        }
    }

    fn object(&self, name: &str) -> String {
        format!("Secret {}/{name}", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn data(value: &str) -> Data {
        Data::from([("tls.crt".to_owned(), value.as_bytes().to_vec())])
    }

    #[tokio::test]
    async fn who_read_an_older_secret_must_read_again() {
        let fake = Fake::default();
        let store = Store::new(fake.client(), "pure-chaos");
        let write = |read, value| store.write(SERVING_SECRET, "kubernetes.io/tls", read, data(value));
        assert!(store.read(SERVING_SECRET).await.unwrap().is_none());
        assert_eq!(write(None, "one").await.unwrap(), Written::Done);
        assert_eq!(write(None, "two").await.unwrap(), Written::Conflict, "made in between");
        let read = store.read(SERVING_SECRET).await.unwrap();
        assert_eq!(read.as_ref().unwrap().data(), &data("one"));
        assert_eq!(write(read.clone(), "three").await.unwrap(), Written::Done);
        assert_eq!(write(read.clone(), "four").await.unwrap(), Written::Conflict, "changed in between");
        fake.delete_secret(SERVING_SECRET);
        assert_eq!(write(read, "five").await.unwrap(), Written::Conflict, "deleted in between");
        assert!(fake.secret(SERVING_SECRET).is_none());
    }

    #[tokio::test]
    async fn what_others_wrote_beside_stays() {
        let fake = Fake::default();
        let store = Store::new(fake.client(), "pure-chaos");
        let annotated = serde_json::json!({
            "metadata": {"name": CA_SECRET, "annotations": {"team": "platform"}},
            "type": "Opaque", "data": {"note": "aGk="},
        });
        fake.put_secret(CA_SECRET, annotated);
        let read = store.read(CA_SECRET).await.unwrap();
        assert_eq!(store.write(CA_SECRET, "Opaque", read, data("x")).await.unwrap(), Written::Done);
        let secret = fake.secret(CA_SECRET).unwrap();
        assert_eq!(secret["metadata"]["annotations"]["team"], "platform");
        assert_eq!(secret["data"]["note"], "aGk=");
        assert_eq!(secret["data"]["tls.crt"], "eA==");
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do() {
        let fake = Fake::default();
        let store = Store::new(fake.client(), "pure-chaos");
        fake.fail("GET", "/certs-ca", 1, fake_api::Answer::Status(403, serde_json::Value::Null));
        let error = store.read(CA_SECRET).await.err().unwrap();
        assert!(error.to_string().starts_with("failed to read Secret pure-chaos/certs-ca (give"), "{error}");
    }
}
