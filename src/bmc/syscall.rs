//! The ioctls of the kernel's IPMI device, one function each (Linux `include/uapi/linux/ipmi.h`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{Ioctl, c_int, c_long, c_short, c_uchar, c_uint, c_ushort};
use nix::{ioctl_read_bad, ioctl_readwrite_bad};

use super::message::{MESSAGE_SIZE_MAX, Request};

/// `struct ipmi_msg`.
#[repr(C)]
#[derive(Debug)]
struct IpmiMsg {
    netfn: c_uchar,
    cmd: c_uchar,
    data_len: c_ushort,
    data: *mut c_uchar,
}

/// `struct ipmi_req`.
#[repr(C)]
#[derive(Debug)]
struct IpmiReq {
    addr: *mut c_uchar,
    addr_len: c_uint,
    msgid: c_long,
    msg: IpmiMsg,
}

/// `struct ipmi_recv`.
#[repr(C)]
#[derive(Debug)]
struct IpmiRecv {
    recv_type: c_int,
    addr: *mut c_uchar,
    addr_len: c_uint,
    msgid: c_long,
    msg: IpmiMsg,
}

/// `struct ipmi_system_interface_addr`: the BMC itself.
#[repr(C)]
#[derive(Debug)]
struct SystemInterfaceAddr {
    addr_type: c_int,
    channel: c_short,
    lun: c_uchar,
}

const IPMI_SYSTEM_INTERFACE_ADDR_TYPE: c_int = 0x0c;
const IPMI_BMC_CHANNEL: c_short = 0xf;

/// `sizeof(struct ipmi_addr)`, which holds an address of any type.
const ADDRESS_SIZE_MAX: usize = 40;

/// `IPMI_RESPONSE_RECV_TYPE`.
const RESPONSE: c_int = 1;

const IPMICTL_RECEIVE_MSG_TRUNC: Ioctl =
    nix::request_code_readwrite!(b'i', 11, size_of::<IpmiRecv>()) as Ioctl;
// The header says "read", but the kernel only reads the request.
const IPMICTL_SEND_COMMAND: Ioctl =
    nix::request_code_read!(b'i', 13, size_of::<IpmiReq>()) as Ioctl;

// As a C compiler computes them from the kernel's header, on every architecture with the generic
// _IOC layout.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
const _: () = {
    assert!(IPMICTL_RECEIVE_MSG_TRUNC == 0xc030_690b_u32 as Ioctl);
    assert!(IPMICTL_SEND_COMMAND == 0x8028_690d_u32 as Ioctl);
    assert!(std::mem::offset_of!(IpmiReq, msgid) == 16);
    assert!(std::mem::offset_of!(IpmiReq, msg) == 24);
    assert!(std::mem::offset_of!(IpmiRecv, msgid) == 24);
    assert!(std::mem::offset_of!(IpmiRecv, msg) == 32);
    assert!(std::mem::offset_of!(IpmiMsg, data) == 8);
};
#[cfg(target_arch = "arm")]
const _: () = {
    assert!(IPMICTL_RECEIVE_MSG_TRUNC == 0xc018_690b_u32 as Ioctl);
    assert!(IPMICTL_SEND_COMMAND == 0x8014_690d_u32 as Ioctl);
};
const _: () = assert!(size_of::<SystemInterfaceAddr>() == 8);

ioctl_readwrite_bad!(ipmictl_receive_msg_trunc, IPMICTL_RECEIVE_MSG_TRUNC, IpmiRecv);
ioctl_read_bad!(ipmictl_send_command, IPMICTL_SEND_COMMAND, IpmiReq);

/// What the kernel's driver passes on.
#[derive(Debug)]
pub(super) struct Received {
    /// Whether it is a response to a request, and not an event.
    pub(super) is_response: bool,
    /// The number that the request was sent with.
    pub(super) id: c_long,
    /// Completion code and data.
    pub(super) data: Vec<u8>,
}

/// Sends a request to the BMC; its response will carry `id`.
pub(super) fn send(device: &File, id: c_long, request: &Request) -> io::Result<()> {
    let data_len = c_ushort::try_from(request.data.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut address = SystemInterfaceAddr {
        addr_type: IPMI_SYSTEM_INTERFACE_ADDR_TYPE,
        channel: IPMI_BMC_CHANNEL,
        lun: 0,
    };
    let mut data = request.data.clone();
    let mut command = IpmiReq {
        addr: (&raw mut address).cast(),
        addr_len: size_of::<SystemInterfaceAddr>() as c_uint,
        msgid: id,
        msg: IpmiMsg {
            netfn: request.netfn,
            cmd: request.command,
            data_len,
            data: data.as_mut_ptr(),
        },
    };
    // SAFETY:
    // - the fd is open for the whole call, as `device` is borrowed;
    // - the kernel reads one `struct ipmi_req`, whose size and layout `IpmiReq` has (asserted
    //   above);
    // - `addr` points to `addr_len` bytes and `msg.data` to `msg.data_len` bytes, both alive until
    //   the end of this function;
    // - the kernel copies both before it returns and keeps no pointer.
    unsafe { ipmictl_send_command(device.as_raw_fd(), &mut command) }?;
    Ok(())
}

/// Takes the next message that has come; `EAGAIN` if there is none, `EMSGSIZE` if it is longer than
/// any may be.
pub(super) fn receive(device: &File) -> io::Result<Received> {
    let mut address = [0_u64; ADDRESS_SIZE_MAX / 8];
    let mut data = [0_u8; MESSAGE_SIZE_MAX];
    let mut message = IpmiRecv {
        recv_type: 0,
        addr: address.as_mut_ptr().cast(),
        addr_len: ADDRESS_SIZE_MAX as c_uint,
        msgid: 0,
        msg: IpmiMsg {
            netfn: 0,
            cmd: 0,
            data_len: MESSAGE_SIZE_MAX as c_ushort,
            data: data.as_mut_ptr(),
        },
    };
    // SAFETY:
    // - the fd is open for the whole call, as `device` is borrowed;
    // - the kernel reads and writes one `struct ipmi_recv`, whose size and layout `IpmiRecv` has
    //   (asserted above); any bytes are valid in it;
    // - `addr` points to `addr_len` writable bytes and `msg.data` to `msg.data_len`, both alive
    //   until the end of this function; the kernel writes no more than these, and keeps no pointer.
    unsafe { ipmictl_receive_msg_trunc(device.as_raw_fd(), &mut message) }?;
    let length = usize::from(message.msg.data_len).min(data.len());
    Ok(Received {
        is_response: message.recv_type == RESPONSE,
        id: message.msgid,
        data: data[..length].to_vec(),
    })
}
