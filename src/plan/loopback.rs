//! Addresses of this machine: on the way there nobody reads along, and no proxy is asked.

use url::Host;

/// Whether a host is this machine.
pub fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
        // RFC 6761, section 6.3.
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn this_machine_has_several_names() {
        for (url, loopback) in [
            ("http://127.0.0.1:8080/", true),
            ("http://127.1/", true),
            ("http://[::1]/", true),
            ("http://localhost/", true),
            ("http://api.localhost/", true),
            ("http://localhost.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            let url: Url = url.parse().expect("a URL");
            let host = url.host().expect("a host");
            assert_eq!(is_loopback(&host), loopback, "{url}");
        }
    }
}
