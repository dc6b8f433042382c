//! A session with an arbitrary server. The first byte is the size of the pieces.
#![no_main]

mod player;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let mut whole = player::Player::new();
    whole.feed(stream);
    let mut pieces = player::Player::new();
    stream.chunks(usize::from(size).max(1)).for_each(|piece| pieces.feed(piece));
    assert_eq!(whole.events, pieces.events);
    for mut player in [whole, pieces] {
        player.end();
        assert_eq!(player.taken, player.done);
    }
});
