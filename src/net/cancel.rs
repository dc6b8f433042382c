//! [`Cancellation`]: a CancelRequest for the command of a session.

use std::future::poll_fn;
use std::time::Duration;

use bytes::BytesMut;
use tokio::task::{self, JoinHandle};
use tokio::time::timeout;

use super::encrypt::Encryptor;
use super::establish::{Established, ServerLocation};
use super::pipe::Pipe;
use crate::config::Config;
use crate::error::Error;
use crate::proto::route::Encryption;
use crate::proto::session::CancelKey;

/// The timeout of a CancelRequest. The server answers by closing the connection.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read: an error of a server that accepts no connection is shorter.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// What is needed to cancel the command that a session executes, also after the session has ended.
#[derive(Debug, Clone)]
pub(crate) struct Cancellation {
    key: CancelKey,
    config: Config,
    location: ServerLocation,
    encryption: Encryption,
}

impl Cancellation {
    /// Returns the cancellation of a session. `None` if the server has sent no key.
    pub(crate) fn of(established: &Established) -> Option<Self> {
        Some(Self {
            key: established.driver.session.cancel_key()?,
            config: established.config.clone(),
            location: established.location.clone(),
            encryption: established.encryption,
        })
    }

    /// Sends the request, in a task of its own, and drops the session then. Its success is not known: the server answers nothing.
    ///
    /// The session stays open until then, because a pooler ignores the request after its client has disconnected.
    // N119.
    pub(crate) fn start(self, session: impl Send + 'static) -> JoinHandle<()> {
        // A task, because TLS may call code of the user, which may be slow or panic.
        task::spawn(async move {
            let _ = timeout(CANCEL_TIMEOUT, Box::pin(self.run())).await;
            drop(session);
        })
    }

    /// Sends the request to the same address, with the encryption of the session, and waits until the server closes the connection.
    async fn run(self) -> Result<(), Error> {
        let Self { key, config, location, encryption } = self;
        let encryptor = Encryptor::new(&config).await?;
        let dialled = location.address().dial(&config).await?;
        let wrapped = encryptor.wrap(dialled, encryption, location.server()).await?;
        // It overwrites what it has written, as during a login.
        let mut pipe = Pipe::new(wrapped.stream);
        let mut request = BytesMut::with_capacity(512);
        key.encode_request(&mut request)?;
        poll_fn(|cx| pipe.poll_write(cx, &mut request)).await;
        let mut answer = BytesMut::with_capacity(ANSWER_BYTES_MAX);
        while answer.len() < ANSWER_BYTES_MAX
            && poll_fn(|cx| pipe.poll_read(cx, &mut answer)).await? > 0
        {}
        Ok(())
    }
}
