//! The decoder of UEFI's own compression: LZ77 whose literals, lengths and positions are Huffman
//! codes, in blocks with tables of their own.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | size when compressed, without this header |
//! | 4 | 4 | size when unpacked |
//! | 8 | | blocks, as bits, the highest of a byte first |
//!
//! A block:
//!
//! | bits | field |
//! | --- | --- |
//! | 16 | number of symbols |
//! | 5, ... | lengths of the codes for the lengths of the symbols' codes |
//! | 9, ... | lengths of the codes of the symbols: literals, then lengths of matches from 3 on |
//! | 4 or 5, ... | lengths of the codes of the positions |
//! | ... | symbols; behind the length of a match its position |
//!
//! Source: UEFI specification, appendix H. Tiano differs by the 5 bits.

/// Longest code.
const LENGTH_MAX: usize = 16;
/// Literals, and lengths of matches from 3 to 256.
const SYMBOLS: usize = 510;
/// Lengths of codes, with three for runs of zeros.
const LENGTHS: usize = 19;
const POSITIONS_MAX: usize = 31;
const MATCH_BYTES_MIN: usize = 3;
const HEADER_BYTES: usize = 8;
/// Bits by which most codes are known at once.
const QUICK_BITS: u32 = 10;
/// The encoder writes some bits more to get the last ones out, and a zero.
const REST_BYTES_MAX: usize = 4;

/// Which one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// EFI 1.1.
    Efi,
    /// Tiano.
    Tiano,
}

/// Why nothing is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TianoError {
    /// The sizes do not fit.
    #[error("compressed to {packed_bytes:x?} bytes, expected them to fit into 0x{room_bytes:x}")]
    Size {
        /// As the header says.
        packed_bytes: Option<u32>,
        /// What there is.
        room_bytes: usize,
    },
    /// The bits end before the unpacked bytes do.
    #[error("compressed bytes end too early")]
    Truncated,
    /// Lengths of codes that are no prefix code.
    #[error("table of codes that cannot be")]
    Table,
    /// A match that begins before the first byte.
    #[error("match before the first byte")]
    Position,
    /// The unpacked bytes end before the last block does, or the bits go on.
    #[error("more compressed bytes than the unpacked ones take")]
    Rest,
    /// More bytes than there is room for.
    #[error("unpacked bytes are more than are looked at")]
    TooLarge,
}

/// Unpacks `packed`, with its header, to at most `room_bytes`.
///
/// # Errors
/// [`TianoError`].
pub fn unpack(packed: &[u8], variant: Variant, room_bytes: usize) -> Result<Vec<u8>, TianoError> {
    let size = |at: usize| Some(u32::from_le_bytes(*packed.get(at..)?.first_chunk()?));
    let misfit = TianoError::Size { packed_bytes: size(0), room_bytes: packed.len() };
    let (Some(packed_bytes), Some(unpacked_bytes)) = (size(0), size(4)) else { return Err(misfit) };
    let body = packed[HEADER_BYTES..].get(..packed_bytes as usize).ok_or(misfit)?;
    let unpacked_bytes = unpacked_bytes as usize;
    if unpacked_bytes > room_bytes {
        return Err(TianoError::TooLarge);
    }
    let mut decoder = Decoder { bits: Bits { bytes: body, next: 0 }, variant };
    let bytes = decoder.run(unpacked_bytes)?;
    let used_bytes = decoder.bits.next.div_ceil(8);
    if used_bytes > body.len() {
        return Err(TianoError::Truncated);
    }
    let rest = &body[used_bytes..];
    if rest.len() > REST_BYTES_MAX && rest.iter().any(|byte| *byte != 0) {
        return Err(TianoError::Rest);
    }
    Ok(bytes)
}

/// Bits of `bytes`, and zeros behind them.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next bit.
    next: usize,
}

impl Bits<'_> {
    /// Returns the next 32 bits, or zeros behind the end.
    fn peek(&self) -> u32 {
        let start = self.next / 8;
        let shift = self.next % 8;
        let word = match self.bytes.get(start..).and_then(<[u8]>::first_chunk::<8>) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => {
                let rest = self.bytes.get(start..).unwrap_or_default();
                let at = |index: usize| u64::from(rest.get(index).copied().unwrap_or(0));
                (0..8).fold(0, |word, index| word << 8 | at(index))
            }
        };
        (word << shift >> 32) as u32
    }

    /// Takes at most 16 bits.
    fn take(&mut self, count: u32) -> usize {
        if count == 0 {
            return 0;
        }
        let taken = self.peek() >> (32 - count);
        self.next += count as usize;
        taken as usize
    }

    /// Every symbol takes a bit or more, but for codes of no bits; so this ends every loop.
    fn check(&self) -> Result<(), TianoError> {
        match self.next <= self.bytes.len() * 8 {
            true => Ok(()),
            false => Err(TianoError::Truncated),
        }
    }
}

/// A prefix code.
struct Code {
    /// For the first bits: symbol and length; a length of 0 where the code is longer.
    quick: Vec<(u16, u8)>,
    /// The first code of each length, from the left of 16 bits, and its place in `sorted`.
    first: [u32; LENGTH_MAX + 2],
    place: [usize; LENGTH_MAX + 2],
    /// Symbols by length, then number.
    sorted: Vec<u16>,
}

impl Code {
    /// The code of one symbol only, which takes no bits.
    fn constant(symbol: usize) -> Self {
        let mut code = Self::empty();
        code.sorted = vec![symbol as u16];
        code
    }

    fn empty() -> Self {
        let (first, place) = ([0; LENGTH_MAX + 2], [0; LENGTH_MAX + 2]);
        Self { quick: Vec::new(), first, place, sorted: Vec::new() }
    }

    /// The code whose symbols have these lengths, 0 for those without a code. It must be complete.
    fn of_lengths(lengths: &[u8]) -> Result<Self, TianoError> {
        let mut code = Self::empty();
        let mut next = 0u32;
        for length in 1..=LENGTH_MAX {
            code.first[length] = next;
            code.place[length] = code.sorted.len();
            for (symbol, _) in
                lengths.iter().enumerate().filter(|(_, l)| usize::from(**l) == length)
            {
                code.sorted.push(symbol as u16);
                next += 1 << (LENGTH_MAX - length);
            }
        }
        if next != 1 << LENGTH_MAX {
            return Err(TianoError::Table);
        }
        code.first[LENGTH_MAX + 1] = next;
        code.place[LENGTH_MAX + 1] = code.sorted.len();
        code.quick = vec![(0, 0); 1 << QUICK_BITS];
        let mut at = 0;
        for &symbol in &code.sorted {
            let length = lengths[usize::from(symbol)];
            if u32::from(length) > QUICK_BITS {
                break;
            }
            let end = at + (1 << (QUICK_BITS - u32::from(length)));
            code.quick[at..end].fill((symbol, length));
            at = end;
        }
        Ok(code)
    }

    fn decode(&self, bits: &mut Bits<'_>) -> Result<usize, TianoError> {
        if self.quick.is_empty() {
            return self.sorted.first().map(|symbol| usize::from(*symbol)).ok_or(TianoError::Table);
        }
        let word = bits.peek() >> (32 - LENGTH_MAX as u32);
        let (symbol, length) = self.quick[(word >> (LENGTH_MAX as u32 - QUICK_BITS)) as usize];
        if length > 0 {
            bits.next += usize::from(length);
            return Ok(usize::from(symbol));
        }
        let lengths = QUICK_BITS as usize + 1..=LENGTH_MAX;
        let length = lengths.into_iter().find(|length| word < self.first[length + 1]);
        let length = length.ok_or(TianoError::Table)?;
        let nth = (word - self.first[length]) as usize >> (LENGTH_MAX - length);
        bits.next += length;
        self.sorted.get(self.place[length] + nth).map(|s| usize::from(*s)).ok_or(TianoError::Table)
    }
}

struct Decoder<'a> {
    bits: Bits<'a>,
    variant: Variant,
}

impl Decoder<'_> {
    fn run(&mut self, unpacked_bytes: usize) -> Result<Vec<u8>, TianoError> {
        let mut bytes = Vec::with_capacity(unpacked_bytes);
        while bytes.len() < unpacked_bytes {
            let symbols = self.bits.take(16);
            let lengths = self.read_lengths(LENGTHS, 5, Some(3))?;
            let symbol_code = self.read_symbols(&lengths)?;
            let position_bits = if self.variant == Variant::Efi { 4 } else { 5 };
            let positions = self.read_lengths(POSITIONS_MAX, position_bits, None)?;
            self.bits.check()?;
            self.read_block(symbols, &symbol_code, &positions, unpacked_bytes, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn read_block(
        &mut self,
        symbols: usize,
        symbol_code: &Code,
        positions: &Code,
        unpacked_bytes: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), TianoError> {
        for _ in 0..symbols {
            let symbol = symbol_code.decode(&mut self.bits)?;
            if bytes.len() == unpacked_bytes {
                return Err(TianoError::Rest);
            }
            match u8::try_from(symbol) {
                Ok(literal) => bytes.push(literal),
                Err(_) => {
                    let length = symbol - 256 + MATCH_BYTES_MIN;
                    let back = self.position(positions)? + 1;
                    let start = bytes.len().checked_sub(back).ok_or(TianoError::Position)?;
                    if length > unpacked_bytes - bytes.len() {
                        return Err(TianoError::Rest);
                    }
                    copy(bytes, start, length);
                }
            }
        }
        self.bits.check()
    }

    /// The first bits of a position are a code, the others follow as they are.
    fn position(&mut self, positions: &Code) -> Result<usize, TianoError> {
        match positions.decode(&mut self.bits)? {
            small @ 0..=1 => Ok(small),
            bits => {
                let low = bits as u32 - 1;
                let (high_bits, low_bits) = (low.saturating_sub(16), low.min(16));
                let high = self.bits.take(high_bits);
                Ok((1 << low) + (high << low_bits) + self.bits.take(low_bits))
            }
        }
    }

    /// Lengths of codes: 3 bits, or more ones than that and a zero. Behind the first `gap` of them
    /// 2 bits say how many zeros follow.
    fn read_lengths(
        &mut self,
        limit: usize,
        count_bits: u32,
        gap: Option<usize>,
    ) -> Result<Code, TianoError> {
        let count = self.bits.take(count_bits);
        if count == 0 {
            return Ok(Code::constant(self.bits.take(count_bits)));
        }
        let mut lengths = vec![0u8; limit];
        let mut next = 0;
        while next < count.min(limit) {
            let ones = self.bits.peek().leading_ones();
            let length = match self.bits.peek() >> 29 {
                7 => {
                    self.bits.next += ones as usize + 1;
                    ones + 4
                }
                few => {
                    self.bits.next += 3;
                    few
                }
            };
            if length as usize > LENGTH_MAX {
                return Err(TianoError::Table);
            }
            lengths[next] = length as u8;
            next += 1;
            if gap == Some(next) {
                next += self.bits.take(2);
            }
        }
        Code::of_lengths(&lengths)
    }

    /// Lengths of the symbols' codes, runs of zeros shortened.
    fn read_symbols(&mut self, lengths: &Code) -> Result<Code, TianoError> {
        let count = self.bits.take(9);
        if count == 0 {
            return Ok(Code::constant(self.bits.take(9)));
        }
        let mut symbols = [0u8; SYMBOLS];
        let mut next = 0;
        while next < count.min(SYMBOLS) {
            match lengths.decode(&mut self.bits)? {
                0 => next += 1,
                1 => next += self.bits.take(4) + 3,
                2 => next += self.bits.take(9) + 20,
                length => {
                    symbols[next] = (length - 2) as u8;
                    next += 1;
                }
            }
        }
        Code::of_lengths(&symbols)
    }
}

/// Appends `length` bytes from `start` on; they may be among those that are appended.
fn copy(bytes: &mut Vec<u8>, start: usize, length: usize) {
    match start + length <= bytes.len() {
        true => bytes.extend_from_within(start..start + length),
        false => (start..start + length).for_each(|at| bytes.push(bytes[at])),
    }
}
