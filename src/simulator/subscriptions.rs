//! A model of the channels as the user knows them, from commands, answers and gaps. It has no sessions.

/// The index of a channel.
pub(super) type ChannelId = usize;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: String,
    /// Servers sometimes refuse it.
    pub(super) is_refusable: bool,
    /// It is wanted according to the last answers.
    pub(super) is_wanted: bool,
    /// It was reported as active, and UNLISTEN was not requested since.
    pub(super) is_confirmed: bool,
    /// It was reported as not active, and LISTEN was not requested since.
    pub(super) is_off: bool,
    /// The last command for it.
    last: u64,
    /// The number of unanswered commands for it.
    open: u32,
}

impl Channel {
    fn new(index: usize, is_refusable: bool) -> Self {
        let name = match index % 5 {
            3 => format!("We\"ird {index}"),
            4 => format!("kanäle.{index}"),
            _ => format!("channel_{index}"),
        };
        Self {
            name,
            is_refusable,
            is_wanted: false,
            is_confirmed: false,
            is_off: true,
            last: 0,
            open: 0,
        }
    }

    /// Returns true if no command for it is unanswered.
    pub(super) fn is_settled(&self) -> bool {
        self.open == 0
    }
}

#[derive(Debug)]
pub(super) struct Subscriptions(pub(super) Vec<Channel>);

impl Subscriptions {
    pub(super) fn new(count: usize, initial: usize) -> Self {
        let mut channels: Vec<Channel> = (0..count)
            .map(|index| Channel::new(index, index >= initial && index % 3 == 1))
            .collect();
        for channel in &mut channels[..initial] {
            (channel.is_wanted, channel.is_off) = (true, false);
        }
        Self(channels)
    }

    pub(super) fn names(&self, channels: &[ChannelId]) -> Vec<String> {
        channels.iter().map(|&channel| self.0[channel].name.clone()).collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<ChannelId> {
        self.0.iter().position(|channel| channel.name == name)
    }

    pub(super) fn all(&self) -> Vec<ChannelId> {
        (0..self.0.len()).collect()
    }

    /// Records a LISTEN command.
    pub(super) fn listens(&mut self, id: u64, channels: &[ChannelId]) {
        for &channel in channels {
            let channel = &mut self.0[channel];
            channel.is_off = false;
            channel.last = id;
            channel.open += 1;
        }
    }

    /// Records an UNLISTEN command.
    pub(super) fn unlistens(&mut self, id: u64, channels: &[ChannelId]) {
        for &channel in channels {
            let channel = &mut self.0[channel];
            channel.is_confirmed = false;
            channel.last = id;
            channel.open += 1;
        }
    }

    /// Records the answer to `listens`. `None` if it was refused and has changed nothing.
    pub(super) fn listened(&mut self, id: u64, channels: &[ChannelId], active: Option<bool>) {
        for &channel in channels {
            let channel = &mut self.0[channel];
            channel.open -= 1;
            match active {
                Some(active) => {
                    channel.is_wanted = true;
                    if channel.last == id {
                        channel.is_confirmed |= active;
                    }
                }
                None if channel.last == id => channel.is_off = !channel.is_wanted,
                None => {}
            }
        }
    }

    /// Records the answer to `unlistens`. After a failure it is unknown whether the channel is active.
    pub(super) fn unlistened(&mut self, id: u64, channels: &[ChannelId], is_done: bool) {
        for &channel in channels {
            let channel = &mut self.0[channel];
            channel.open -= 1;
            channel.is_wanted &= !is_done;
            if channel.last == id {
                channel.is_off = is_done;
            }
        }
    }

    /// Records that every wanted channel except these was reported as active.
    pub(super) fn restored(&mut self, refused: &[ChannelId]) {
        for (index, channel) in self.0.iter_mut().enumerate() {
            if refused.contains(&index) {
                channel.is_confirmed = false;
            } else if channel.is_wanted && channel.open == 0 {
                channel.is_confirmed = true;
            }
        }
    }
}
