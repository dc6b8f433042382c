//! Scripts on a real socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Delivery, Mismatch, Output, Script};

/// How long a script waits for the other side: a test that hangs tells nothing.
const STALL: Duration = Duration::from_secs(60);

impl Script {
    /// Plays the script for one client, on a port of 127.0.0.1 that the system chose.
    ///
    /// A client that closes while the script still sends has not broken it: what is left to send is
    /// left out. The script ends in the runtime in which it was started; dropping the handle does not
    /// end it.
    ///
    /// # Errors
    /// What the system says when there is no port to be had. The task returns the mismatch, also
    /// when the client lets it wait for more than a minute.
    pub async fn serve(
        self,
        delivery: Delivery,
    ) -> io::Result<(SocketAddr, JoinHandle<Result<(), Mismatch>>)> {
        Self::serve_in_turn([self], delivery).await
    }

    /// As [`serve`](Self::serve), for one client after the other, each with a script of its own.
    ///
    /// # Errors
    /// As [`serve`](Self::serve). The first mismatch ends the task.
    pub async fn serve_in_turn(
        scripts: impl IntoIterator<Item = Self>,
        delivery: Delivery,
    ) -> io::Result<(SocketAddr, JoinHandle<Result<(), Mismatch>>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let scripts: Vec<Self> = scripts.into_iter().collect();
        let task = tokio::spawn(async move {
            for script in scripts {
                let accepted = tokio::time::timeout(STALL, listener.accept()).await;
                let stream = match accepted {
                    Ok(Ok((stream, _))) => stream,
                    Ok(Err(error)) => return Err(script.absent(&error.to_string())),
                    Err(_) => return Err(script.absent("nobody within a minute")),
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
        // Without it the pieces would be put together again, which makes the test weaker, not wrong.
        let _ = stream.set_nodelay(true);
        let mut input = BytesMut::new();
        let mut sent = 0_usize;
        // The client takes nothing any more, and may still have sent something.
        let mut mute = false;
        let mut gone = false;
        loop {
            let output = match self.step(&mut input)? {
                Output::NeedMore | Output::WaitForEof => {
                    gone = gone || self.read(&mut stream, &mut input).await?;
                    if !gone {
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
                            && !mute
                        {
                            tokio::time::sleep(pause).await;
                        }
                        mute = mute || stream.write_all(piece).await.is_err();
                        tokio::task::yield_now().await;
                    }
                    sent = sent.saturating_add(bytes.len());
                }
                Output::Flood(bytes) => {
                    while !mute {
                        let written = tokio::time::timeout(STALL, stream.write_all(&bytes)).await;
                        mute = match written {
                            Ok(result) => result.is_err(),
                            Err(_) => {
                                return Err(self.absent("one that reads nothing for a minute"));
                            }
                        };
                    }
                    let _ = stream.shutdown().await;
                    return self.handle_eof(&input).map(drop);
                }
                Output::Reset => {
                    // If it cannot be reset, it is closed: as broken as the system allows.
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

    /// Reads once. Says whether the stream is over, in order or not.
    async fn read(&self, stream: &mut TcpStream, input: &mut BytesMut) -> Result<bool, Mismatch> {
        match tokio::time::timeout(STALL, stream.read_buf(input)).await {
            Ok(Ok(bytes)) => Ok(bytes == 0),
            Ok(Err(_)) => Ok(true),
            Err(_) => Err(self.absent("nothing within a minute")),
        }
    }
}
