//! Scripts on a real socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Delivery, Mismatch, Output, Script};

/// How long a script waits for the client. A test that hangs gives no result.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

impl Script {
    /// Plays the script for one client, on a port of 127.0.0.1 that the system chose.
    ///
    /// It is no error if the client closes while the script still sends: the remaining bytes are not sent. The
    /// script runs in the runtime in which it was started; dropping the handle does not end it.
    ///
    /// # Errors
    /// The error of the system, if no port is available. The task returns the mismatch; it also fails if the client
    /// sends or reads nothing for a minute.
    pub async fn serve(
        self,
        delivery: Delivery,
    ) -> io::Result<(SocketAddr, JoinHandle<Result<(), Mismatch>>)> {
        Self::serve_in_turn([self], delivery).await
    }

    /// Like [`serve`](Self::serve), for several clients one after the other, each with its own script.
    ///
    /// # Errors
    /// See [`serve`](Self::serve). The first mismatch ends the task.
    pub async fn serve_in_turn(
        scripts: impl IntoIterator<Item = Self>,
        delivery: Delivery,
    ) -> io::Result<(SocketAddr, JoinHandle<Result<(), Mismatch>>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let scripts: Vec<Self> = scripts.into_iter().collect();
        let task = tokio::spawn(async move {
            for script in scripts {
                let accepted = tokio::time::timeout(STALL_TIMEOUT, listener.accept()).await;
                let stream = match accepted {
                    Ok(Ok((stream, _))) => stream,
                    Ok(Err(error)) => return Err(script.absent(&error.to_string())),
                    Err(_) => return Err(script.absent("no client within a minute")),
                };
                script.play(stream, delivery).await?;
            }
            Ok(())
        });
        Ok((address, task))
    }

    fn absent(&self, found: &str) -> Mismatch {
        Mismatch::new(self.done, "a client".to_owned(), found.to_owned())
    }

    async fn play(mut self, mut stream: TcpStream, delivery: Delivery) -> Result<(), Mismatch> {
        // Without it the system may join the pieces. The test would still be correct, but weaker.
        let _ = stream.set_nodelay(true);
        let mut input = BytesMut::new();
        let mut sent = 0_usize;
        // The client no longer reads, but may have sent something.
        let mut unwritable = false;
        let mut ended = false;
        loop {
            let output = match self.step(&mut input)? {
                Output::NeedMore | Output::WaitForEof => {
                    ended = ended || self.read(&mut stream, &mut input).await?;
                    if !ended {
                        continue;
                    }
                    self.handle_eof(&input)?
                }
                output => output,
            };
            match output {
                Output::Send(bytes) => {
                    for piece in delivery.pieces(sent, &bytes) {
                        if let Delivery::ByteEvery(pause) = delivery
                            && !unwritable
                        {
                            tokio::time::sleep(pause).await;
                        }
                        unwritable = unwritable || stream.write_all(piece).await.is_err();
                        tokio::task::yield_now().await;
                    }
                    sent = sent.saturating_add(bytes.len());
                }
                Output::Flood(bytes) => {
                    while !unwritable {
                        let written =
                            tokio::time::timeout(STALL_TIMEOUT, stream.write_all(&bytes)).await;
                        unwritable = match written {
                            Ok(result) => result.is_err(),
                            Err(_) => {
                                return Err(self.absent("a client that reads nothing for a minute"));
                            }
                        };
                    }
                    let _ = stream.shutdown().await;
                    return self.handle_eof(&input).map(drop);
                }
                Output::Reset => {
                    // If it cannot be reset, it is closed.
                    let _ = stream.set_zero_linger();
                    return Ok(());
                }
                Output::Close | Output::Done => {
                    let _ = stream.shutdown().await;
                    return Ok(());
                }
                Output::NeedMore | Output::WaitForEof => {}
            }
        }
    }

    /// Reads once. Returns whether the stream has ended, by EOF or by an error.
    async fn read(&self, stream: &mut TcpStream, input: &mut BytesMut) -> Result<bool, Mismatch> {
        match tokio::time::timeout(STALL_TIMEOUT, stream.read_buf(input)).await {
            Ok(Ok(bytes)) => Ok(bytes == 0),
            Ok(Err(_)) => Ok(true),
            Err(_) => Err(self.absent("nothing within a minute")),
        }
    }
}
