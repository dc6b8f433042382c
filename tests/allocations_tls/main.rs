//! Receiving over TLS does not allocate for each notification: rustls allocates for each record, and a record of PostgreSQL has
//! many notifications. There is one test, because the counters are those of the whole process.

#![cfg(all(unix, feature = "tls-ring"))]

use std::alloc::System;
use std::time::Duration;

use pgbell::Connection;
use pgbell_testkit::{Certificates, Cluster, Leaf, Tls, TlsVersion};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Notifications of one transaction. All of them fit into the buffers of the sockets, so that the sender is done before they
/// are received.
const COUNT: usize = 5_000;

/// The size of a notification: type, length, process, channel and payload.
const FRAME_BYTES: usize = 1 + 4 + 4 + 3 + 33;

/// The data of a record of PostgreSQL: its send buffer.
const RECORD_BYTES: usize = 8 * 1024;

/// The data, and at most two changes of size of the buffer in which rustls collects a record.
const ALLOCATIONS_PER_RECORD_MAX: usize = 3;

/// Rounds until all buffers have reached the size that a round needs.
const WARM_UP: usize = 4;

async fn receive(connection: &mut Connection) {
    let mut count = 0;
    while count < COUNT {
        let batch = tokio::time::timeout(Duration::from_secs(60), connection.recv_batch());
        let batch = batch.await.expect("nothing arrives").unwrap();
        assert!(batch.iter().all(|one| one.payload_bytes().len() == 32));
        count += batch.len();
    }
}

#[test]
fn receiving_under_tls_allocates_per_record_and_not_per_notification() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = Leaf::server("localhost").ip_address([127, 0, 0, 1]);
    let leaf = root.issue(&leaf).unwrap();
    let cluster = Cluster::builder().tls(&leaf).start().unwrap_or_else(|error| panic!("{error}"));
    let root = root.certificate().path().display().to_string();
    let url = format!("{}?sslmode=verify-full&sslrootcert={root}", cluster.url_for_superuser());
    for version in [TlsVersion::V1_3, TlsVersion::V1_2] {
        cluster.set_tls(Tls::new(&leaf).max_version(version)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = Connection::connect(&url).await.unwrap();
            connection.listen("ch").await.unwrap();
            let mut sender = Connection::connect(&url).await.unwrap();
            let sql = format!(
                "SELECT count(pg_notify('ch', lpad(i::text, 32, '0'))) FROM generate_series(1, {COUNT}) i"
            );
            for _ in 0..WARM_UP {
                sender.simple_query(&sql).await.unwrap();
                receive(&mut connection).await;
            }
            sender.simple_query(&sql).await.unwrap();
            let region = Region::new(ALLOCATOR);
            receive(&mut connection).await;
            let Stats { allocations, reallocations, .. } = region.change();
            let most = ALLOCATIONS_PER_RECORD_MAX * (COUNT * FRAME_BYTES).div_ceil(RECORD_BYTES);
            assert!(allocations + reallocations <= most, "{version:?}: {region:?}");
        });
    }
}
