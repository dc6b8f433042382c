//! sqlx: `PgListener::recv`.

use sqlx::postgres::PgListener;

use super::{Job, USER, block_on};
use crate::outcome::Outcome;
use crate::tally::Tally;

pub(super) fn run(job: &Job) -> Outcome<()> {
    // sqlx uses rustls' default, and a build of the whole workspace has two providers, and so no default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let job = job.clone();
    block_on(1, async move {
        let tls = match &job.root {
            None => "sslmode=disable".to_owned(),
            Some(root) => format!("sslmode=verify-ca&sslrootcert={}", root.display()),
        };
        let url = format!("postgres://{USER}@127.0.0.1:{}/{USER}?{tls}", job.port);
        let mut listener = PgListener::connect(&url).await?;
        let channels = job.shape.all_channels();
        listener.listen_all(channels.iter().map(String::as_str)).await?;
        let mut tally = Tally::begin(job.count)?;
        while !tally.is_complete() {
            let n = listener.recv().await?;
            tally.arrived();
            tally.add(n.channel().as_bytes(), n.payload().as_bytes());
        }
        tally.finish()
    })
}
