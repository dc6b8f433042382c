//! Tests for every supported major version: one test for each function and version.

mod heartbeats;
#[cfg(feature = "json")]
mod json;
mod logins;
mod million;
mod order;
mod protocol;
mod recipes;
mod round_trip;
mod saslprep;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod table;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls;

/// Makes tests `pg13::…` to `pg18::…` of functions that take a major version.
macro_rules! on_every_version {
    ($($theme:ident)*) => {
        on_every_version! { pg13 = 13: $($theme)* }
        on_every_version! { pg14 = 14: $($theme)* }
        on_every_version! { pg15 = 15: $($theme)* }
        on_every_version! { pg16 = 16: $($theme)* }
        on_every_version! { pg17 = 17: $($theme)* }
        on_every_version! { pg18 = 18: $($theme)* }
    };
    ($version:ident = $major:literal: $($theme:ident)*) => {
        mod $version {
            $(
                #[test]
                fn $theme() {
                    super::$theme($major);
                }
            )*
        }
    };
}
pub(crate) use on_every_version;
