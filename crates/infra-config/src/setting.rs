//! The declaration of one setting.

use std::time::Duration;

/// One setting: name, type and everything else that is known about it beforehand.
///
/// All constructors and methods are `const`, so that a crate or an application can keep its
/// settings in a constant table:
///
/// ```
/// use infra_config::Setting;
///
/// const SETTINGS: &[Setting] = &[
///     Setting::integer("DESK_DAYS", 1, 10_000).default("250").doc("Days that are replayed."),
///     Setting::boolean("DESK_DRY_RUN").default("false").reloadable().doc("Send no orders."),
///     Setting::text("DESK_API_KEY").secret().required().doc("Key of the exchange."),
/// ];
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setting {
    /// The variable's name: upper-case letters, digits and underscores.
    pub name: &'static str,
    /// What its text means.
    pub kind: Kind,
    /// The text that counts when no layer sets it.
    pub default: Option<&'static str>,
    /// Whether its value may be printed.
    pub secrecy: Secrecy,
    /// When a missing value is an error.
    pub required: Required,
    /// The selection without which it has no effect.
    pub used_with: Option<Selection>,
    /// The other setting whose value it must not exceed, where both have one.
    pub at_most: Option<&'static str>,
    /// The least and the greatest text that users of the setting take where it has no value.
    pub unless_set: Option<(&'static str, &'static str)>,
    /// Whether a reload may change it.
    pub reloadable: bool,
    /// What it is for, in one or two sentences.
    pub doc: &'static str,
}

/// What the text of a setting means. No type is ever guessed from the text.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Kind {
    /// Any text, taken as it stands: `0123` stays four characters, `1.10` stays `1.10`.
    Text,
    /// A whole number, decimal.
    Integer {
        /// The least allowed.
        min: i64,
        /// The greatest allowed.
        max: i64,
    },
    /// A number with an optional fraction; never infinite or not-a-number.
    Number {
        /// The least allowed.
        min: f64,
        /// The greatest allowed.
        max: f64,
    },
    /// `true`, `yes`, `on`, `1` or `false`, `no`, `off`, `0`, in any case.
    Boolean,
    /// A number with a unit: `us`, `ms`, `s`, `m`, `h` or `d`. The unit is required.
    Duration {
        /// The shortest allowed.
        min: Duration,
        /// The longest allowed.
        max: Duration,
    },
    /// A whole number of bytes with a unit: `B`, `kB`, `MB`, `GB` (powers of 1000) or `KiB`,
    /// `MiB`, `GiB` (powers of 1024). The unit is required.
    Size {
        /// The least allowed, in bytes.
        min: u64,
        /// The greatest allowed, in bytes.
        max: u64,
    },
    /// One of some words, in any case.
    Choice(&'static [Choice]),
    /// A log level word, or directives such as `info,app::orders=debug`.
    LogLevel,
    /// A URL with one of these schemes and a host.
    Url {
        /// The schemes, without `://`.
        schemes: &'static [&'static str],
    },
    /// Whatever a check of one's own accepts.
    Custom {
        /// What is expected, to go on with "expected ...".
        expected: &'static str,
        /// Whether a text is acceptable. Must not panic.
        accepts: fn(&str) -> bool,
    },
}

/// One word of a [`Kind::Choice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// The word, lower case.
    pub word: &'static str,
    /// The cargo feature of `infra` that it needs.
    pub feature: Option<&'static str>,
}

impl Choice {
    /// A word that is always there.
    pub const fn always(word: &'static str) -> Self {
        Choice {
            word,
            feature: None,
        }
    }

    /// A word that needs a cargo feature.
    pub const fn with_feature(word: &'static str, feature: &'static str) -> Self {
        Choice {
            word,
            feature: Some(feature),
        }
    }
}

/// Whether a value may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Secrecy {
    /// It may.
    Plain,
    /// A URL: printed with its password masked.
    MaskedUrl,
    /// Never: printed as `***`.
    Secret,
}

/// When a missing value is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Required {
    /// Never.
    No,
    /// Always.
    Always,
    /// When `INFRA_ENV` has this value: the default must not slip in there.
    InEnvironment(&'static str),
    /// When another setting has one of some values.
    With(Selection),
}

/// A setting that has one of some values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The other setting's name.
    pub setting: &'static str,
    /// The values, lower case.
    pub values: &'static [&'static str],
}

impl Setting {
    /// A setting of any kind. Settings with a URL are printed masked, others plainly.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Setting {
            name,
            kind,
            default: None,
            secrecy: match kind {
                Kind::Url { .. } => Secrecy::MaskedUrl,
                _ => Secrecy::Plain,
            },
            required: Required::No,
            used_with: None,
            at_most: None,
            unless_set: None,
            reloadable: false,
            doc: "",
        }
    }

    /// A [`Kind::Text`].
    pub const fn text(name: &'static str) -> Self {
        Setting::new(name, Kind::Text)
    }

    /// A [`Kind::Integer`] from `min` to `max`, both included.
    pub const fn integer(name: &'static str, min: i64, max: i64) -> Self {
        Setting::new(name, Kind::Integer { min, max })
    }

    /// A [`Kind::Number`] from `min` to `max`, both included.
    pub const fn number(name: &'static str, min: f64, max: f64) -> Self {
        Setting::new(name, Kind::Number { min, max })
    }

    /// A [`Kind::Boolean`].
    pub const fn boolean(name: &'static str) -> Self {
        Setting::new(name, Kind::Boolean)
    }

    /// A [`Kind::Duration`] from `min` to `max`, both included.
    pub const fn duration(name: &'static str, min: Duration, max: Duration) -> Self {
        Setting::new(name, Kind::Duration { min, max })
    }

    /// A [`Kind::Size`] from `min` to `max` bytes, both included.
    pub const fn size(name: &'static str, min: u64, max: u64) -> Self {
        Setting::new(name, Kind::Size { min, max })
    }

    /// A [`Kind::Choice`].
    pub const fn choice(name: &'static str, choices: &'static [Choice]) -> Self {
        Setting::new(name, Kind::Choice(choices))
    }

    /// A [`Kind::Url`].
    pub const fn url(name: &'static str, schemes: &'static [&'static str]) -> Self {
        Setting::new(name, Kind::Url { schemes })
    }

    /// The text that counts when no layer sets it. It must be valid for the kind.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// Never printed.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secrecy = Secrecy::Secret;
        self
    }

    /// Must be set.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = Required::Always;
        self
    }

    /// Must be set when `INFRA_ENV` is `environment`, whatever the default.
    #[must_use]
    pub const fn required_in(mut self, environment: &'static str) -> Self {
        self.required = Required::InEnvironment(environment);
        self
    }

    /// Must be set when another setting has one of these values.
    #[must_use]
    pub const fn required_with(
        mut self,
        setting: &'static str,
        values: &'static [&'static str],
    ) -> Self {
        self.required = Required::With(Selection { setting, values });
        self
    }

    /// Has an effect only when another setting has one of these values; set without it, it leads
    /// to a warning.
    #[must_use]
    pub const fn used_with(
        mut self,
        setting: &'static str,
        values: &'static [&'static str],
    ) -> Self {
        self.used_with = Some(Selection { setting, values });
        self
    }

    /// Must not exceed the value of another setting, where both have one. Both must be integers,
    /// numbers, durations or sizes, neither a secret, and a reload may change both or none.
    ///
    /// ```
    /// use infra_config::{Loader, Setting};
    ///
    /// const SETTINGS: &[Setting] = &[
    ///     Setting::integer("DESK_SOFT_LIMIT", 1, 1_000).default("50").at_most("DESK_HARD_LIMIT"),
    ///     Setting::integer("DESK_HARD_LIMIT", 1, 1_000).default("100"),
    /// ];
    /// let loader = Loader::new().settings(SETTINGS).environment([("DESK_SOFT_LIMIT", "500")]);
    /// let errors = loader.load().unwrap_err();
    /// let expected = "DESK_SOFT_LIMIT (environment): is 500, more than DESK_HARD_LIMIT (100, default)";
    /// assert!(errors.to_string().contains(expected));
    /// ```
    #[must_use]
    pub const fn at_most(mut self, setting: &'static str) -> Self {
        self.at_most = Some(setting);
        self
    }

    /// What users of the setting take where it has no value, from `least` to `most`, so that it
    /// counts for [`at_most`](Self::at_most) all the same: a setting that somebody sets must not
    /// exceed the least of its bound, nor fall below the most of what it bounds. Both must be valid
    /// for the kind, and a setting with a default must not have any.
    ///
    /// ```
    /// use std::time::Duration;
    /// use infra_config::{Loader, Setting};
    ///
    /// const DAY: Duration = Duration::from_secs(86_400);
    /// const SETTINGS: &[Setting] = &[
    ///     Setting::duration("DESK_STEP", Duration::ZERO, DAY)
    ///         .at_most("DESK_ROUND")
    ///         .unless_set("1s", "5s"),
    ///     Setting::duration("DESK_ROUND", Duration::ZERO, DAY),
    /// ];
    /// let loader = Loader::new().settings(SETTINGS).environment([("DESK_ROUND", "3s")]);
    /// let errors = loader.load().unwrap_err();
    /// let expected = "DESK_ROUND (environment): is 3s, less than DESK_STEP (up to 5s unless set); \
    ///                 set both";
    /// assert!(errors.to_string().contains(expected));
    /// ```
    #[must_use]
    pub const fn unless_set(mut self, least: &'static str, most: &'static str) -> Self {
        self.unless_set = Some((least, most));
        self
    }

    /// A reload may change it.
    #[must_use]
    pub const fn reloadable(mut self) -> Self {
        self.reloadable = true;
        self
    }

    /// What it is for, in one or two sentences.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }
}
