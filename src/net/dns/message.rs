//! DNS messages, as far as one who asks for addresses and services sees them (RFC 1035 section 4,
//! RFC 2782, RFC 3596).
//!
//! ```text
//! offset  length  field
//!      0       2  id
//!      2       2  QR 1, opcode 4, AA 1, TC 1, RD 1, RA 1, Z 3, RCODE 4 bits
//!      4       8  numbers of questions, answers, authorities, additional records
//!     12       -  question: name, type 2, class 2
//!      -       -  records: name, type 2, class 2, TTL 4, length 2, data
//! ```

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{
    BinDecodable, BinDecoder, BinEncodable, BinEncoder, DecodeError,
};

/// Most records looked at in one message.
const RECORDS_MAX: usize = 64;

/// Most aliases followed in one answer.
const ALIASES_MAX: usize = 8;

const CLASS_INTERNET: u16 = 1;

const QUERY_RECURSIVE: u16 = 0x0100;
const FLAG_ANSWER: u16 = 0x8000;
const MASK_OPCODE: u16 = 0x7800;
const MASK_CODE: u16 = 0x000f;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: RecordType,
}

impl Question {
    /// Returns the datagram that asks it. None for a name that no datagram can hold, which
    /// [`name_of`] does not make.
    pub(super) fn emit(&self, id: u16) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64);
        let mut encoder = BinEncoder::new(&mut bytes);
        let mut emit = || {
            for word in [id, QUERY_RECURSIVE, 1, 0, 0, 0] {
                encoder.emit_u16(word)?;
            }
            self.name.emit(&mut encoder)?;
            encoder.emit_u16(self.kind.into())?;
            encoder.emit_u16(CLASS_INTERNET)
        };
        emit().ok()?;
        Some(bytes)
    }
}

/// Returns whether `text` is the name of a host or domain that can be looked up: labels of letters,
/// digits, "-" and "_".
pub fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Returns the absolute name that `text` means.
pub(super) fn name_of(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut name =
        is_host_name(text).then(|| Name::from_ascii(text.to_ascii_lowercase()).ok())??;
    name.set_fqdn(true);
    Some(name)
}

/// What a server says to a question.
#[derive(Debug)]
pub(super) struct Answer {
    /// RCODE: 0 for "no error", 3 for "no such name".
    pub(super) code: u8,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    owner: Name,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Address(IpAddr),
    Alias(Name),
    Service(SRV),
}

impl Answer {
    /// None for what is not an answer to `question` asked with `id`. Records that nobody asked for
    /// are left out; a message that ends too early, or was cut to fit a datagram, gives the records
    /// that are whole.
    pub(super) fn parse(bytes: &[u8], id: u16, question: &Question) -> Option<Self> {
        let mut decoder = BinDecoder::new(bytes);
        let mut words = [0; 6];
        for word in &mut words {
            *word = decoder.read_u16().ok()?.unverified();
        }
        let [got_id, flags, questions, answers, authorities, additional] = words;
        if got_id != id || flags & (FLAG_ANSWER | MASK_OPCODE) != FLAG_ANSWER || questions != 1 {
            return None;
        }
        let name = Name::read(&mut decoder).ok()?;
        let kind = decoder.read_u16().ok()?.unverified();
        let class = decoder.read_u16().ok()?.unverified();
        if name != question.name || kind != u16::from(question.kind) || class != CLASS_INTERNET {
            return None;
        }
        let count = [answers, authorities, additional].map(usize::from).iter().sum::<usize>();
        let mut records = Vec::new();
        for _ in 0..count.min(RECORDS_MAX) {
            match read_record(&mut decoder) {
                Ok(record) => records.extend(record),
                Err(_) => break,
            }
        }
        Some(Self { code: (flags & MASK_CODE) as u8, records })
    }

    /// Returns the addresses of `name`, or of what it is an alias of.
    pub(super) fn addresses(&self, name: &Name) -> Vec<IpAddr> {
        let name = self.resolve_alias(name);
        let owned = self.records.iter().filter(|record| record.owner == *name);
        let address = |record: &Record| match record.data {
            Data::Address(address) => Some(address),
            _ => None,
        };
        owned.filter_map(address).collect()
    }

    /// Returns the services of `name`, or of what it is an alias of.
    pub(super) fn services(&self, name: &Name) -> Vec<SRV> {
        let name = self.resolve_alias(name);
        let owned = self.records.iter().filter(|record| record.owner == *name);
        let service = |record: &Record| match &record.data {
            Data::Service(service) => Some(service.clone()),
            _ => None,
        };
        owned.filter_map(service).collect()
    }

    fn resolve_alias<'a>(&'a self, name: &'a Name) -> &'a Name {
        let mut name = name;
        for _ in 0..ALIASES_MAX {
            let alias = self.records.iter().find_map(|record| match &record.data {
                Data::Alias(target) if record.owner == *name => Some(target),
                _ => None,
            });
            let Some(target) = alias else { break };
            name = target;
        }
        name
    }
}

/// Returns the next record; none when it is one that is not needed, or whose data is not what its
/// type says.
fn read_record(decoder: &mut BinDecoder<'_>) -> Result<Option<Record>, DecodeError> {
    let owner = Name::read(decoder)?;
    let kind = decoder.read_u16()?.unverified();
    let class = decoder.read_u16()?.unverified();
    decoder.read_u32()?;
    let length = usize::from(decoder.read_u16()?.unverified());
    let start = decoder.index();
    let whole = decoder.read_slice(length)?.unverified();
    if class != CLASS_INTERNET {
        return Ok(None);
    }
    // The names in it may point back into the message, so it is read in place.
    let Ok(start_offset) = u16::try_from(start) else { return Ok(None) };
    let mut inner = decoder.clone(start_offset);
    let data = read_data(&mut inner, RecordType::from(kind));
    let fits = inner.index() - start == whole.len();
    Ok(data.filter(|_| fits).map(|data| Record { owner, data }))
}

fn read_data(decoder: &mut BinDecoder<'_>, kind: RecordType) -> Option<Data> {
    match kind {
        RecordType::A => A::read(decoder).ok().map(|a| Data::Address(a.0.into())),
        RecordType::AAAA => AAAA::read(decoder).ok().map(|a| Data::Address(a.0.into())),
        RecordType::CNAME => Name::read(decoder).ok().map(Data::Alias),
        RecordType::SRV => SRV::read(decoder).ok().map(Data::Service),
        _ => None,
    }
}
