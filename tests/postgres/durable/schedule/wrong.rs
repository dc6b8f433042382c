//! [`WrongFunction`]: a function of the log with a planted error, which calls the right one with other arguments, or changes what it returns.

use pgbell::Connection;

use super::fault::Fault;
use crate::support::value;

/// A planted error. It does not depend on the text of the function, only on the names of its arguments and columns.
pub(super) struct WrongFunction {
    pub(super) name: &'static str,
    /// The name of the function, without that of the log.
    function: &'static str,
    /// Expressions in the place of arguments.
    arguments: &'static [(&'static str, &'static str)],
    /// The text of the function. `{right}` is the call of the right one.
    body: &'static str,
    /// The faults that can show it.
    pub(super) faults: &'static [Fault],
}

/// What is about a page, and no record, has no id. Of these rows, only the one with the snapshot has a payload.
const IS_ABOUT: &str = "page.id IS NULL AND page.payload IS NOT NULL";

const ALL: &str = "SELECT * FROM {right}";

pub(super) const WRONG: &[WrongFunction] = &[
    WrongFunction {
        name: "transactions above the xmax of the lower snapshot are forgotten",
        function: "read",
        arguments: &[("at_next", "pg_snapshot_xmax(at_lower)")],
        body: ALL,
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "transactions that the lower snapshot lists are forgotten",
        function: "read",
        arguments: &[(
            "at_lower",
            "format('%1$s:%1$s:', pg_snapshot_xmax(at_lower))::pg_snapshot",
        )],
        body: ALL,
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "only ids above the last one are read",
        function: "read",
        arguments: &[],
        body: "SELECT * FROM {right} WHERE id IS NULL OR id > at_high",
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "the last record of a page is read again",
        function: "read",
        arguments: &[("at_last", "at_last - 1")],
        body: ALL,
        faults: &[Fault::Repeated],
    },
    WrongFunction {
        name: "the record after the last one is left out",
        function: "read",
        arguments: &[("at_last", "at_last + 1")],
        body: ALL,
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "a window ends before its highest id",
        function: "read",
        arguments: &[("at_upper_high", "at_upper_high - 1")],
        body: ALL,
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "the highest id of the lower snapshot counts as new",
        function: "read",
        arguments: &[("at_high", "at_high - 1")],
        body: ALL,
        faults: &[Fault::Repeated],
    },
    WrongFunction {
        name: "everything below xmax counts as visible",
        function: "read",
        arguments: &[],
        body: "SELECT page.id, page.key, CASE WHEN {is_about} THEN format('%1$s:%1$s:', split_part(page.payload, ':', 2))
            ELSE page.payload END, page.headers, page.micros FROM {right} AS page",
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "each page of a window has a snapshot of its own",
        function: "read",
        arguments: &[("at_upper", "CASE WHEN at_upper IS NOT NULL THEN pg_current_snapshot() END")],
        body: ALL,
        // A page that ends early is one that misses the rest.
        faults: &[Fault::Early, Fault::Missed],
    },
    WrongFunction {
        name: "the highest id does not grow",
        function: "read",
        arguments: &[],
        body: "SELECT page.id, page.key, page.payload, page.headers,
            CASE WHEN {is_about} THEN coalesce(at_upper_high, at_high) ELSE page.micros END FROM {right} AS page",
        // A position whose last id is above its highest one is no position.
        faults: &[Fault::Repeated, Fault::Failed],
    },
    WrongFunction {
        name: "the next xid is the xmax of the snapshot",
        function: "read",
        arguments: &[],
        body: "SELECT page.id, CASE WHEN page.id IS NULL AND page.payload IS NULL
            THEN pg_snapshot_xmax(pg_current_snapshot())::text ELSE page.key END, page.payload, page.headers, page.micros FROM {right} AS page",
        faults: &[Fault::Missed],
    },
    WrongFunction {
        name: "a receipt is not compared with the position",
        function: "ack",
        arguments: &[(
            "receipt",
            "(SELECT concat_ws(' ', at.cursor_id, split_part(at.text, ' ', 1), split_part(at.text, ' ', 2), split_part(at.text, ' ', 3), substring(receipt FROM '^(?:\\S+ ){4}(.*)$'))
            FROM {schema}.outbox_positions AS at WHERE at.cursor_id = split_part(receipt, ' ', 1)::integer)",
        )],
        body: ALL,
        faults: &[Fault::Accepted],
    },
    WrongFunction {
        name: "an acknowledgement is forgotten",
        function: "ack",
        arguments: &[],
        body: "SELECT",
        faults: &[Fault::Repeated, Fault::Accepted],
    },
];

impl WrongFunction {
    /// Puts it in the place of the right function.
    pub(super) async fn plant(&self, session: &mut Connection, schema: &str) {
        let Self { function, arguments, body, .. } = self;
        let names = format!(
            "SELECT array_to_string(proargnames[1:pronargs], ' ') FROM pg_proc WHERE oid = '{schema}.outbox_{function}'::regproc"
        );
        let names = value(session, &names).await;
        let mut used = 0;
        let given: Vec<&str> = names
            .split(' ')
            .map(|name| {
                let other = arguments.iter().find(|(replaced, _)| *replaced == name);
                used += usize::from(other.is_some());
                other.map_or(name, |(_, expression)| expression)
            })
            .collect();
        assert_eq!(used, arguments.len(), "{}: the arguments are {names}", self.name);
        let head = format!(
            "SELECT format('{schema}.outbox_{function}(%s) RETURNS %s', pg_get_function_arguments(oid), pg_get_function_result(oid))
            FROM pg_proc WHERE oid = '{schema}.outbox_{function}'::regproc"
        );
        let head = value(session, &head).await;
        let right = format!("{schema}.right_{function}({})", given.join(", "));
        let body = body.replace("{is_about}", IS_ABOUT).replace("{right}", &right);
        let body = body.replace("{schema}", schema);
        let sql = format!(
            "ALTER FUNCTION {schema}.outbox_{function} RENAME TO right_{function};
            CREATE FUNCTION {head} LANGUAGE sql AS $wrong$ {body} $wrong$"
        );
        session.simple_query(&sql).await.unwrap();
    }
}
