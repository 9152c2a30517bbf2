/// Removes (or applies) the mask of a client's frame. `phase` is how many bytes of the payload came before these.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], phase: usize) {
    let mask: [u8; 4] = std::array::from_fn(|i| mask[(i + phase) % 4]);
    let wide = u64::from_ne_bytes(std::array::from_fn(|i| mask[i % 4]));
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::unmask;

    proptest! {
        #[test]
        fn unmasks_as_the_rfc_defines_it(bytes: Vec<u8>, mask: [u8; 4], phase in 0usize..9) {
            let mut unmasked = bytes.clone();
            unmask(&mut unmasked, mask, phase);
            let defined: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[(i + phase) % 4]).collect();
            prop_assert_eq!(unmasked, defined);
        }
    }
}
