//! The SCRAM iterations that a real server requests: those with which the password of a role was stored.

use pgbell::{Connection, ErrorKind};
use pgbell_testkit::Auth;

use crate::psql::psql_gets_in;
use crate::support::{Server, all_text, run};

const PASSWORD: &str = "pl4nted and stretched";

/// A role for each number of iterations, with its stored password.
const ROLES: [(&str, &str); 3] = [
    (
        "one",
        "SCRAM-SHA-256$1:MDEyMzQ1Njc4OWFiY2RlZg==$bRSeCEVpOjYM0ClPvgClcRnpe2z0wEadlJsfENZdea8=:OWRspupJ7Retxy735IMMdtBFL1tZv8h9QLd49IgpGVE=",
    ),
    (
        "few",
        "SCRAM-SHA-256$4095:MDEyMzQ1Njc4OWFiY2RlZg==$ioj7YB1hVaMN54E0Ogc4ZDuPt6OB02i0efbEIqWQixA=:RbipP0AR4peA0d4/xvVRXo1P89a6mn2lm7zdYgjNjJQ=",
    ),
    (
        "many",
        "SCRAM-SHA-256$150000:MDEyMzQ1Njc4OWFiY2RlZg==$KtonKqWETFAFb6QLUSKQQRessa+C5zcWfR49T6RNk9g=:8yub1NXFPDK5ZNWn6YRmCW6kZUutObVcwJiY2FLubNk=",
    ),
];

#[test]
fn passwords_stored_with_few_or_many_iterations_log_in_within_the_limits() {
    let server = Server::with(|builder| {
        ROLES.iter().fold(builder.auth(Auth::ScramSha256), |builder, (role, stored)| {
            builder.init_sql(format!("CREATE ROLE {role} LOGIN PASSWORD '{stored}'"))
        })
    });
    let few = "fewer than the 4096 required";
    for (role, parameters, refusal) in [
        ("one", "", Some(few)),
        ("few", "", Some(few)),
        ("many", "", None),
        ("one", "&scram_iterations_min=1", None),
        ("few", "&scram_iterations_min=4095", None),
        ("many", "&scram_iterations_max=100000", Some("more than the 100000 allowed")),
        ("many", "&scram_iterations_min=150000&scram_iterations_max=150000", None),
    ] {
        let url = server.cluster.url(role, PASSWORD, "postgres");
        // libpq accepts any number of iterations.
        assert_ne!(psql_gets_in(&url), Some(false), "psql, {role}");
        // A debug build on a busy machine needs time for so many iterations.
        let url = format!("{url}?connect_timeout=60{parameters}");
        run(async {
            match Connection::connect(&*url).await {
                Ok(connection) => {
                    assert_eq!(refusal, None, "{role} {parameters}");
                    connection.close().await;
                }
                Err(error) => {
                    assert!(!all_text(&error).contains("pl4nted"));
                    assert_eq!(error.kind(), ErrorKind::Auth, "{role} {parameters}: {error}");
                    let refusal = refusal.unwrap_or_else(|| panic!("{role} {parameters}: {error}"));
                    assert!(format!("{error:#}").contains(refusal), "{role} {parameters}: {error}");
                    let setting = if role == "many" {
                        "scram_iterations_max"
                    } else {
                        "scram_iterations_min"
                    };
                    assert!(error.hint().unwrap().contains(setting), "{error}");
                }
            }
        });
    }
}
