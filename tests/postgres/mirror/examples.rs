//! The examples of mirrors.

use crate::cargo::cargo_example;
use crate::examples::example_output;
use crate::support::Server;

/// It starts its servers itself.
#[test]
fn the_example_of_a_live_table_shows_a_page_that_is_right_after_a_failover() {
    let expected = "page: 1 new, 2 new, 3 new\n\
                    page: 1 shipped, 2 new, 3 new\n\
                    the primary has failed, and the page is not current: 1 shipped, 2 new, 3 new\n\
                    after the failover: 1 shipped, 3 new\n\
                    page: 1 shipped, 3 paid\n";
    assert_eq!(cargo_example("run", "live_table", ""), expected);
}

#[test]
fn the_example_of_a_cache_never_returns_an_old_price() {
    let expected = "ink: Some(500)\n\
                    pen: Some(900)\n\
                    ink: Some(500)\n\
                    globe: Some(7000)\n\
                    3 hits, 1 misses\n\
                    ink changes to Some(550)\n\
                    ink is popular no more, the cache has None\n\
                    ink in the table: Some(550)\n\
                    pen: Some(950)\n";
    assert_eq!(example_output(&Server::start(), "cache"), expected);
}
