//! What a BMC gives as FRU information: taken apart or refused; a URL that is set is there, and
//! clearing it leaves the others' records.

#![no_main]

use firmcast::bmc::fru::{Edit, Fru};
use firmcast::manager_url::ManagerUrl;
use libfuzzer_sys::fuzz_target;

fn others(bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let records = Fru::parse(bytes).ok()?.records.ok()?;
    let others = records.iter().filter(|record| !record.is_ours());
    Some(others.map(|record| (record.kind, record.data.to_vec())).collect())
}

fuzz_target!(|input: (Vec<u8>, bool)| {
    let (mut bytes, is_header) = input;
    if let (true, Some(header)) = (is_header, bytes.first_chunk_mut::<8>()) {
        header[0] = 1;
        header[7] = header[..7].iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    }
    let url: ManagerUrl = "firmcast://192.0.2.7".parse().expect("a URL");
    let before = others(&bytes);
    let Ok(set) = Edit::set(&bytes, &url) else { return };
    assert_eq!(Fru::parse(set.after()).expect("still FRU information").manager_urls(), [url]);
    assert_eq!(others(set.after()), before);
    if let Ok(cleared) = Edit::clear(set.after()) {
        assert_eq!(others(cleared.after()), before);
    }
});
