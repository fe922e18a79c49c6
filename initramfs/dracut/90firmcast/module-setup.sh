#!/bin/bash
# Module of dracut (dracut.modules(7)): puts firmcastd, its modules and the host's identity into the distribution's own initramfs,
# where firmcast.sh runs it when firmcast.recover= is on the kernel command line. Belongs into
# /usr/lib/dracut/modules.d/90firmcast.
# shellcheck disable=SC2154 # dracut sets initdir, moddir, kernel

FIRMCAST_DATA=${FIRMCAST_DATA:-/usr/share/firmcast/initramfs}
FIRMCASTD=${FIRMCASTD:-/usr/sbin/firmcastd}
# What `firmcastd rescue-archive --output` has written; empty when the boot loader loads it (docs/BOOT.md).
FIRMCAST_ARCHIVE=${FIRMCAST_ARCHIVE-/boot/firmcast/rescue.cpio}

check() {
	local file
	for file in "$FIRMCASTD" "$FIRMCAST_DATA/modules.dirs" "$FIRMCAST_DATA/run-hook"; do
		[[ -f $file ]] || { dwarn "firmcast: there is no $file; firmcast.recover= will do nothing"; return 1; }
	done
	return 0
}

depends() {
	echo base kernel-modules
	return 0
}

installkernel() {
	local names
	mapfile -t names < <("$FIRMCAST_DATA/list-modules" "/lib/modules/$kernel")
	# Not only those that this machine has loaded now: what is broken tomorrow may have been exchanged.
	hostonly='' instmods -s "${names[@]}"
}

install() {
	inst_simple "$FIRMCASTD" /usr/sbin/firmcastd
	inst_multiple cat modprobe
	inst_simple "$FIRMCAST_DATA/modprobe.conf" /usr/share/firmcast/modprobe.conf
	inst_simple "$FIRMCAST_DATA/run-hook" /usr/share/firmcast/run-hook
	inst_simple "$FIRMCAST_DATA/hold.conf" /etc/modprobe.d/firmcast.conf
	# udev has run, the root file system is found and not mounted yet.
	inst_hook pre-mount 10 "$moddir/firmcast.sh"
	if [[ -f $FIRMCAST_ARCHIVE ]]; then
		# The host's identity: readable by root alone, as dracut makes the whole initramfs.
		(umask 077 && cd "$initdir" && cpio --quiet -i -d -u --no-absolute-filenames firmcast/rescue.json) <"$FIRMCAST_ARCHIVE"
	elif [[ -n $FIRMCAST_ARCHIVE ]]; then
		dwarn "firmcast: there is no $FIRMCAST_ARCHIVE; make it with \"firmcastd rescue-archive --output $FIRMCAST_ARCHIVE\""
	fi
}
