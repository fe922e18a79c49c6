// SPDX-License-Identifier: GPL-2.0
/*
 * Gives the first NOR chip that appears the block protect bits of a SPI NOR: they lock 1, 2, 4, 8 ... or all of its 64 KiB
 * sectors, counted from the chip's top.
 *
 * QEMU's CFI chip takes every command to lock a block and forgets it. Here the bits stand in a byte of the machine's CMOS, so
 * that they outlast kexec and reset as a chip's status register does. What they lock takes neither erase nor write. Locking and
 * unlocking follow the kernel's own driver for such chips (drivers/mtd/spi-nor/swp.c, without the bit for the bottom): a
 * range that the bits cannot express is refused, or rounded so that less is locked. After `keeps_open`, which the machine
 * keeps in mind, too, nothing can be locked any more.
 */
#include <linux/log2.h>
#include <linux/mc146818rtc.h>
#include <linux/module.h>
#include <linux/mtd/mtd.h>
#include <linux/pci.h>

#define SECTOR     0x10000
/* Far behind what firmware uses; the byte behind it is its complement, so that a machine that was never asked is told apart. */
#define CMOS_BITS  0x6c
#define CMOS_CHECK 0x6d
#define KEEPS_OPEN 0x80

static bool keeps_open;
module_param(keeps_open, bool, 0444);
MODULE_PARM_DESC(keeps_open, "nothing can be locked from then on");
static int sectors = -1;
module_param(sectors, int, 0444);
MODULE_PARM_DESC(sectors, "so many sectors at the top are locked at first; unless given, what the machine has in mind");

static const struct pci_device_id __maybe_unused lpc_bridges[] = {
	{ PCI_VDEVICE(INTEL, 0x2918) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lpc_bridges);

static struct mtd_info *victim;
static int (*chip_erase)(struct mtd_info *mtd, struct erase_info *instr);
static int (*chip_write)(struct mtd_info *mtd, loff_t to, size_t len, size_t *retlen, const u_char *buf);

static u64 all(struct mtd_info *mtd)
{
	return div_u64(mtd->size, SECTOR);
}

static u8 bits_in_mind(void)
{
	unsigned long flags;
	u8 bits, check;

	spin_lock_irqsave(&rtc_lock, flags);
	bits = CMOS_READ(CMOS_BITS);
	check = CMOS_READ(CMOS_CHECK);
	spin_unlock_irqrestore(&rtc_lock, flags);
	return bits == (u8)~check ? bits : 0;
}

/* How many sectors at the top are locked. */
static u64 locked_sectors(struct mtd_info *mtd)
{
	u8 bits = bits_in_mind() & ~KEEPS_OPEN;

	return bits ? min(1ULL << (bits - 1), all(mtd)) : 0;
}

static void set_sectors(struct mtd_info *mtd, u64 count)
{
	u8 bits = (count ? ilog2(count) + 1 : 0) | (bits_in_mind() & KEEPS_OPEN) | (keeps_open ? KEEPS_OPEN : 0);
	unsigned long flags;

	spin_lock_irqsave(&rtc_lock, flags);
	CMOS_WRITE(bits, CMOS_BITS);
	CMOS_WRITE((u8)~bits, CMOS_CHECK);
	spin_unlock_irqrestore(&rtc_lock, flags);
	pr_info("flash_locks: %llu of %llu sectors are locked\n", locked_sectors(mtd), all(mtd));
}

static u64 lock_start(struct mtd_info *mtd)
{
	return mtd->size - locked_sectors(mtd) * SECTOR;
}

static int is_locked(struct mtd_info *mtd, loff_t ofs, uint64_t len)
{
	return ofs >= lock_start(mtd);
}

static int lock(struct mtd_info *mtd, loff_t ofs, uint64_t len)
{
	u64 length = mtd->size - ofs, count;

	if (ofs >= lock_start(mtd))
		return 0;
	if (ofs + len < lock_start(mtd) || length < SECTOR)
		return -EINVAL;
	if (bits_in_mind() & KEEPS_OPEN)
		return -EIO;
	count = rounddown_pow_of_two(div_u64(length, SECTOR));
	if (count < locked_sectors(mtd))
		return -EINVAL;
	set_sectors(mtd, count);
	return 0;
}

static int unlock(struct mtd_info *mtd, loff_t ofs, uint64_t len)
{
	u64 length = mtd->size - ofs - len, count;

	if (ofs + len <= lock_start(mtd))
		return 0;
	if (ofs > lock_start(mtd) || (length && length < SECTOR))
		return -EINVAL;
	count = length ? rounddown_pow_of_two(div_u64(length, SECTOR)) : 0;
	if (count > locked_sectors(mtd))
		return -EINVAL;
	set_sectors(mtd, count);
	return 0;
}

static int guarded_erase(struct mtd_info *mtd, struct erase_info *instr)
{
	if (instr->addr + instr->len > lock_start(mtd)) {
		pr_info("flash_locks: erase of 0x%llx refused\n", instr->addr);
		return -EROFS;
	}
	return chip_erase(mtd, instr);
}

static int guarded_write(struct mtd_info *mtd, loff_t to, size_t len, size_t *retlen, const u_char *buf)
{
	if (to + len > lock_start(mtd)) {
		pr_info("flash_locks: write of 0x%llx refused\n", to);
		return -EROFS;
	}
	return chip_write(mtd, to, len, retlen, buf);
}

static void chip_appears(struct mtd_info *mtd)
{
	if (victim || mtd->type != MTD_NORFLASH || !mtd->_write || mtd_is_partition(mtd))
		return;
	victim = mtd;
	chip_erase = mtd->_erase;
	chip_write = mtd->_write;
	mtd->_erase = guarded_erase;
	mtd->_write = guarded_write;
	mtd->_lock = lock;
	mtd->_unlock = unlock;
	mtd->_is_locked = is_locked;
	set_sectors(mtd, sectors >= 0 ? sectors : locked_sectors(mtd));
}

/* The driver's own functions come back only when the chip goes: nothing else takes them away. */
static void chip_goes(struct mtd_info *mtd)
{
	if (mtd == victim)
		victim = NULL;
}

static struct mtd_notifier watcher = {
	.add = chip_appears,
	.remove = chip_goes,
};

static int __init flash_locks_init(void)
{
	register_mtd_user(&watcher);
	return 0;
}

module_init(flash_locks_init);
MODULE_DESCRIPTION("Block protect bits of a SPI NOR for QEMU's firmware chip, for tests");
MODULE_LICENSE("GPL");
