//! Where the platform's Prometheus is.
//!
//! ```yaml
//! prometheus: monitoring/prometheus-operated:9090 # a Service in the cluster
//! ```
//!
//! ```yaml
//! prometheus:                                     # or one outside of it
//!   url: https://prometheus.example.org/prefix
//!   ca: |
//!     -----BEGIN CERTIFICATE-----
//!     ...
//! ```

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::settings::Problem;
use crate::steady_state::{ServiceAddress, Wrong};

/// Where the platform's Prometheus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrometheusAddress {
    /// A Service in the cluster, which the API server's service proxy reaches.
    Service(ServiceAddress),
    /// An address outside the cluster.
    Outside(OutsideAddress),
}

/// The address of a Prometheus outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutsideAddress {
    /// The `https` address, without a `/` at its end.
    pub url: String,
    /// The certificates of the authorities that vouch for it, in PEM form.
    pub ca: String,
}

/// An address in the policy file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum AddressEntry {
    Service(String),
    Outside(OutsideEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutsideEntry {
    url: String,
    ca: String,
}

/// Reads the address of Prometheus in the policy file.
pub(crate) fn read(entry: Spanned<AddressEntry>) -> Result<PrometheusAddress, Wrong> {
    let wrong = |why: &str| (entry.referenced.line(), format!("prometheus{why}"));
    match &entry.value {
        AddressEntry::Service(text) => {
            let service = ServiceAddress::parse(text).ok_or_else(|| {
                let expected = "expected namespace, Service and port, such as \
                                `monitoring/prometheus-operated:9090`; for a Prometheus outside the cluster \
                                write `url` and `ca`";
                let problem = Problem::invalid("prometheus".to_owned(), text, expected.to_owned());
                (entry.referenced.line(), problem.to_string())
            })?;
            Ok(PrometheusAddress::Service(service))
        }
        AddressEntry::Outside(OutsideEntry { url, ca }) => {
            if !is_address(url) {
                return Err(wrong(".url: expected an address such as `https://prometheus.example.org:9090`"));
            }
            if !ca.contains("-----BEGIN CERTIFICATE-----") {
                return Err(wrong(".ca: expected the certificate of the authority, in PEM form"));
            }
            let url = url.trim_end_matches('/').to_owned();
            Ok(PrometheusAddress::Outside(OutsideAddress { url, ca: ca.clone() }))
        }
    }
}

/// Whether the text is an `https` address of a host, with perhaps a port and a path. A user name, a
/// query or a fragment has no place there.
fn is_address(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"#%?\\\"<>^`{|}@".contains(&byte);
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|_| !authority.ends_with(']'));
    !authority.is_empty()
        && !authority.starts_with(':')
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        && rest.bytes().all(is_plain)
        && !rest.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::PlatformPolicy;

    const CA: &str = "-----BEGIN CERTIFICATE-----\\nMII=\\n-----END CERTIFICATE-----\\n";

    fn refusal(yaml: &str) -> String {
        PlatformPolicy::parse(yaml).unwrap_err().to_string()
    }

    #[test]
    fn only_a_host_a_port_and_a_path_make_an_address() {
        for url in [
            "https://prometheus.example.org",
            "https://prometheus.example.org:9090/",
            "https://10.0.0.7/prefix/of/it",
            "https://[2001:db8::1]:9090",
            "https://[2001:db8::1]",
        ] {
            assert!(is_address(url), "{url}");
        }
        for url in [
            "http://prometheus.example.org",
            "https://",
            "https:///path",
            "https://:9090",
            "https://user:word@host",
            "https://host?query=up",
            "https://host#there",
            "https://host:0",
            "https://host:port",
            "https://host/../other",
            "https://ho st",
        ] {
            assert!(!is_address(url), "{url}");
        }
    }

    #[test]
    fn a_bad_address_is_refused_with_its_line() {
        let outside = |url: &str, ca: &str| format!("# first\nprometheus:\n  url: {url}\n  ca: \"{ca}\"\n");
        assert!(PlatformPolicy::parse(&outside("https://prometheus.example.org", CA)).is_ok());
        let plain = refusal(&outside("http://prometheus.example.org", CA));
        assert!(plain.contains("prometheus.url: expected an address such as"), "{plain}");
        let none = refusal(&outside("https://prometheus.example.org", "none"));
        assert!(none.contains("prometheus.ca: expected the certificate"), "{none}");
        let service = refusal("prometheus: here\n");
        assert!(service.contains("line 1: prometheus: Invalid value: \"here\""), "{service}");
        for odd in
            ["prometheus: {url: 'https://host'}\n", "prometheus: {url: 'https://host', ca: x, key: y}\n"]
        {
            assert!(PlatformPolicy::parse(odd).is_err(), "{odd}");
        }
    }
}
