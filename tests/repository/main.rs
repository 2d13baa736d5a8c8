//! The files of the repository: documents, manifests, dashboard and rules, compared with the code.

mod architectures;
mod dashboard;
mod docs;
mod groups;
mod kubernetes_versions;
mod manifests;
mod purity;
mod rules;
