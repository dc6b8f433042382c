//! tokio-postgres: its connection polled directly, and behind a channel, as it is often used.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Job, PING, USER, block_on};
use crate::latency::{Latency, Stopwatch};
use crate::outcome::Outcome;
use crate::tally::Tally;
use crate::tls;

type Connection<T> = tokio_postgres::Connection<Socket, T>;

/// Returns the next message of the server.
async fn message(
    connection: &mut Connection<impl AsyncRead + AsyncWrite + Unpin>,
) -> Outcome<AsyncMessage> {
    let message = poll_fn(|cx| connection.poll_message(cx)).await;
    Ok(message.ok_or("the connection is closed")??)
}

/// Runs a command while it polls the connection.
async fn execute(
    client: &Client,
    connection: &mut Connection<impl AsyncRead + AsyncWrite + Unpin>,
    sql: &str,
) -> Outcome<()> {
    let mut command = pin!(client.batch_execute(sql));
    poll_fn(|cx| {
        if let Poll::Ready(result) = command.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(Into::into));
        }
        match connection.poll_message(cx) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error.into())),
            Poll::Ready(None) => Poll::Ready(Err("the connection is closed".into())),
            Poll::Ready(Some(Ok(_))) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(super) fn polled(job: &Job) -> Outcome<()> {
    let job = job.clone();
    block_on(1, async move {
        let (client, connection) = tokio_postgres::connect(&job.conninfo(), NoTls).await?;
        poll(&job, &client, connection).await
    })
}

pub(super) fn polled_tls(job: &Job) -> Outcome<()> {
    let job = job.clone();
    block_on(1, async move {
        let root = job.root.as_ref().ok_or("TLS needs --root")?;
        let tls = MakeRustlsConnect::new(tls::client_config(root)?);
        // This configuration of rustls checks the certificate in every `sslmode`.
        let port = job.port;
        let conninfo =
            format!("host=127.0.0.1 port={port} user={USER} dbname={USER} sslmode=require");
        let (client, connection) = tokio_postgres::connect(&conninfo, tls).await?;
        poll(&job, &client, connection).await
    })
}

async fn poll(
    job: &Job,
    client: &Client,
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
) -> Outcome<()> {
    execute(client, &mut connection, &job.shape.listen_sql()).await?;
    let mut tally = Tally::begin(job.count)?;
    while !tally.is_complete() {
        if let AsyncMessage::Notification(n) = message(&mut connection).await? {
            tally.arrived();
            tally.add(n.channel().as_bytes(), n.payload().as_bytes());
        }
    }
    tally.finish()
}

pub(super) fn channelled(job: &Job) -> Outcome<()> {
    let job = job.clone();
    block_on(2, async move {
        let (client, mut connection) = tokio_postgres::connect(&job.conninfo(), NoTls).await?;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(message) = message(&mut connection).await {
                if let AsyncMessage::Notification(n) = message
                    && sender.send(n).is_err()
                {
                    break;
                }
            }
        });
        client.batch_execute(&job.shape.listen_sql()).await?;
        let mut tally = Tally::begin(job.count)?;
        while !tally.is_complete() {
            let n = receiver.recv().await.ok_or("the connection is closed")?;
            tally.arrived();
            tally.add(n.channel().as_bytes(), n.payload().as_bytes());
        }
        tally.finish()
    })
}

pub(super) fn ping_pong(job: &Job) -> Outcome<Latency> {
    let job = job.clone();
    block_on(1, async move {
        let (sender, connection) = tokio_postgres::connect(&job.conninfo(), NoTls).await?;
        tokio::spawn(connection);
        let (client, mut receiver) = tokio_postgres::connect(&job.conninfo(), NoTls).await?;
        execute(&client, &mut receiver, &format!("LISTEN {PING}")).await?;
        let mut watch = Stopwatch::new(job.count)?;
        while let Some(ping) = watch.next() {
            sender.batch_execute(&ping.sql()).await?;
            loop {
                if let AsyncMessage::Notification(n) = message(&mut receiver).await? {
                    ping.check(n.payload().as_bytes())?;
                    break;
                }
            }
            watch.arrived(&ping);
        }
        watch.finish()
    })
}
