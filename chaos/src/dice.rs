//! Everything random comes from the run's seed: one generator for each thing that is decided, so that none of them disturbs another.

use fastrand::Rng;

/// The generator for `about` and `number` of a run.
pub(crate) fn dice(seed: u64, about: &str, number: u64) -> Rng {
    let bytes = about.bytes().chain(number.to_le_bytes()).chain(seed.to_le_bytes());
    Rng::with_seed(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))) // FNV-1a
}

/// Mixes two numbers into one that looks like neither (the finalizer of SplitMix64).
pub(crate) fn mix(one: u64, other: u64) -> u64 {
    let mut mixed = one.wrapping_add(other.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
