//! Numbers that look random and depend on nothing but their seed: the same on every machine.

/// A number out of `seed`, a text and a counter (FNV-1a, then the finisher of SplitMix64).
pub fn number(seed: u64, text: &str, counter: u64) -> u64 {
    let bytes = text.bytes().chain(counter.to_le_bytes());
    let hash = bytes.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number from 0 up to 1, not including 1.
pub fn share(seed: u64, text: &str, counter: u64) -> f64 {
    (number(seed, text, counter) >> 11) as f64 / (1u64 << 53) as f64
}
