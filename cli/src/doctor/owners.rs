//! Whether objects can be read without running code of a role with fewer rights.

use pgbell::Error;

use super::client::Client;
use super::sql::Values as _;

/// The owners of the relations and functions of a schema whose names begin with a text, if they are neither this role nor superusers. `%1` is the name
/// of the schema, and `%2` the beginning, as literals. The owner of the schema does not count: what it makes belongs to it.
const SQL: &str = "SELECT DISTINCT role.rolname
    FROM pg_catalog.pg_namespace AS schema
        CROSS JOIN LATERAL (
            SELECT relowner FROM pg_catalog.pg_class WHERE relnamespace = schema.oid AND pg_catalog.starts_with(relname::pg_catalog.text, %2)
            UNION SELECT proowner FROM pg_catalog.pg_proc WHERE pronamespace = schema.oid AND pg_catalog.starts_with(proname::pg_catalog.text, %2)
        ) AS owners (owner)
        JOIN pg_catalog.pg_roles AS role ON role.oid = owners.owner
    WHERE schema.nspname = %1 AND NOT role.rolsuper AND role.rolname <> current_user
    ORDER BY 1";

/// Returns the roles that could have planted code in objects of a schema whose names begin with `prefix`: a view, a function, a policy, or an
/// expression of an index runs with the rights of the role that reads.
pub(super) async fn foreign_owners(
    client: &mut Client,
    schema: &str,
    prefix: &str,
) -> Result<Vec<String>, Error> {
    let sql = SQL.replace("%1", &literal(schema)).replace("%2", &literal(prefix));
    let rows = client.query(&sql).await?;
    Ok(rows.iter().map(|row| row.text(0)).collect())
}

/// Writes a text as a literal, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_literal() {
        assert_eq!(literal("a'b\\'c"), "E'a''b\\\\''c'");
    }
}
