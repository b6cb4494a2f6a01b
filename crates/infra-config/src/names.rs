//! Names that no setting has: typing mistakes, leftovers, and what other software sets.

use crate::setting::Setting;
use crate::suggest;

/// Set by our own tests, never a mistake.
const TEST_PREFIX: &str = "INFRA_TEST_";

/// The declared names and the prefixes that belong to them.
pub(crate) struct Names<'a> {
    pub(crate) settings: &'a [Setting],
    /// Prefixes with their underscore, such as `STATE_`.
    pub(crate) prefixes: Vec<String>,
    /// Prefixes of names that others own although they look like ours.
    pub(crate) foreign: &'a [String],
}

impl<'a> Names<'a> {
    pub(crate) fn new(settings: &'a [Setting], foreign: &'a [String]) -> Self {
        let first = |name: &str| name.split_once('_').map(|(first, _)| format!("{first}_"));
        let mut prefixes: Vec<String> = settings.iter().filter_map(|s| first(s.name)).collect();
        prefixes.sort();
        prefixes.dedup();
        Names {
            settings,
            prefixes,
            foreign,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The setting whose value stands in the file that the variable `name` names.
    pub(crate) fn indirect(&self, name: &str) -> Option<&'a Setting> {
        if self.get(name).is_some() {
            return None;
        }
        self.get(name.strip_suffix("_FILE")?)
    }

    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.get(name).is_some() || self.indirect(name).is_some()
    }

    pub(crate) fn is_foreign(&self, name: &str) -> bool {
        name.starts_with(TEST_PREFIX) || self.foreign.iter().any(|p| name.starts_with(p.as_str()))
    }

    /// Whether a variable of the environment that no setting declares looks like a mistake: it has
    /// a prefix of ours, or nearly the name of a setting.
    pub(crate) fn is_suspicious(&self, name: &str, value: &str) -> bool {
        if self.is_known(name) || self.is_foreign(name) || is_service_link(name, value) {
            return false;
        }
        let ours = self
            .prefixes
            .iter()
            .any(|prefix| name.starts_with(prefix.as_str()));
        let long = self
            .settings
            .iter()
            .map(|setting| setting.name)
            .filter(|n| n.len() >= 10);
        ours || suggest::within(name, long, 2).is_some()
    }

    /// "did you mean" for a name that no setting has.
    pub(crate) fn suggestion(&self, name: &str) -> Option<String> {
        let names = self.settings.iter().map(|setting| setting.name);
        suggest::nearest(name, names).map(|name| format!("did you mean `{name}`?"))
    }
}

/// Whether Kubernetes sets this for a Service, as it does for each one in the namespace: a
/// Service `state-redis` leads to `STATE_REDIS_PORT=tcp://10.0.0.1:6379` and six more.
fn is_service_link(name: &str, value: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    if name.ends_with("_PORT")
        && ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|p| value.starts_with(p))
    {
        return true;
    }
    // `_PORT_6379_TCP`, with nothing, `_PROTO`, `_PORT` or `_ADDR` behind.
    let Some((_, link)) = name.split_once("_PORT_") else {
        return false;
    };
    let mut parts = link.split('_');
    let number = parts.next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_30_service_links_are_recognised() {
        for (name, value) in [
            ("STATE_REDIS_SERVICE_HOST", "10.0.0.1"),
            ("STATE_REDIS_SERVICE_PORT", "6379"),
            ("STATE_REDIS_SERVICE_PORT_CLIENT", "6379"),
            ("STATE_REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("STATE_REDIS_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
            ("STATE_REDIS_PORT_6379_TCP_PROTO", "tcp"),
            ("STATE_REDIS_PORT_6379_TCP_PORT", "6379"),
            ("STATE_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in [
            ("STATE_REDIS_PORT", "6379"),
            ("STATE_REDIS_UR", "redis://h"),
            ("STATE_PORT_X", "1"),
            ("STATE_PORT_12_X", "1"),
        ] {
            assert!(!is_service_link(name, value), "{name}");
        }
    }
}
