//! Whether objects can be read without running code of a role with fewer rights.

use pgbell::Error;

use super::client::Client;
use super::sql::Values as _;

/// The owners of a schema, and of the relations and functions in it whose names begin with a text, if they are neither this role nor superusers. The
/// members of `pg_database_owner` are the owner of the database.
const SQL: &str = "SELECT DISTINCT role.rolname
    FROM pg_catalog.pg_namespace AS schema
        CROSS JOIN LATERAL (
            SELECT coalesce(
                (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
                    AND schema.nspowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = 'pg_database_owner')),
                schema.nspowner)
            UNION SELECT relowner FROM pg_catalog.pg_class
                WHERE relnamespace = schema.oid AND pg_catalog.starts_with(relname::pg_catalog.text, $2::pg_catalog.text)
            UNION SELECT proowner FROM pg_catalog.pg_proc
                WHERE pronamespace = schema.oid AND pg_catalog.starts_with(proname::pg_catalog.text, $2::pg_catalog.text)
        ) AS owners (owner)
        JOIN pg_catalog.pg_roles AS role ON role.oid = owners.owner
    WHERE schema.nspname = $1::pg_catalog.text AND NOT role.rolsuper AND role.rolname <> current_user
    ORDER BY 1";

/// Returns the roles that could have planted code in objects of a schema whose names begin with `prefix`: a view, a function, a policy, or an
/// expression of an index runs with the rights of the role that reads.
pub(super) async fn foreign_owners(
    client: &mut Client,
    schema: &str,
    prefix: &str,
) -> Result<Vec<String>, Error> {
    let rows = client.query_with(SQL, &[Some(schema), Some(prefix)]).await?;
    Ok(rows.iter().map(|row| row.text(0)).collect())
}
