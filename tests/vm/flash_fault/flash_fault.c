// SPDX-License-Identifier: GPL-2.0
/*
 * A flash chip that wears out in the middle of an update, below everything that could hide it.
 *
 * It takes the place of the write function of the first NOR chip that appears. After `good_bytes` of new contents the chip
 * takes nothing new any more: a write of other bytes than the chip held at the start stops half-way with EIO. Bytes that
 * stood there at the start can still be written, so that a restore of the old contents succeeds, however often
 * and in whatever order it is tried.
 */
#include <linux/module.h>
#include <linux/mtd/mtd.h>
#include <linux/pci.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

static unsigned long good_bytes = 160 << 10;
module_param(good_bytes, ulong, 0644);
MODULE_PARM_DESC(good_bytes, "bytes of new contents that it takes before it is worn out");

static const struct pci_device_id __maybe_unused lpc_bridges[] = {
	{ PCI_VDEVICE(INTEL, 0x2918) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lpc_bridges);

static struct mtd_info *victim;
static u_char *contents_at_start;
static int (*chip_write)(struct mtd_info *mtd, loff_t to, size_t len, size_t *retlen, const u_char *buf);

static int worn_out_write(struct mtd_info *mtd, loff_t to, size_t len, size_t *retlen, const u_char *buf)
{
	if (memcmp(contents_at_start + to, buf, len) == 0)
		return chip_write(mtd, to, len, retlen, buf);
	if (good_bytes >= len) {
		good_bytes -= len;
		return chip_write(mtd, to, len, retlen, buf);
	}
	chip_write(mtd, to, len / 2, retlen, buf);
	pr_info("flash_fault: write of 0x%zx bytes at 0x%llx fails half-way\n", len, to);
	return -EIO;
}

static void chip_appears(struct mtd_info *mtd)
{
	size_t got = 0;

	if (victim || mtd->type != MTD_NORFLASH || !mtd->_write || mtd_is_partition(mtd))
		return;
	contents_at_start = vmalloc(mtd->size);
	if (!contents_at_start || mtd_read(mtd, 0, mtd->size, &got, contents_at_start) || got != mtd->size) {
		pr_err("flash_fault: cannot read %s\n", mtd->name);
		vfree(contents_at_start);
		return;
	}
	victim = mtd;
	chip_write = mtd->_write;
	mtd->_write = worn_out_write;
	pr_info("flash_fault: %s takes %lu more bytes\n", mtd->name, good_bytes);
}

static void chip_goes(struct mtd_info *mtd)
{
	if (mtd != victim)
		return;
	mtd->_write = chip_write;
	vfree(contents_at_start);
	victim = NULL;
}

static struct mtd_notifier watcher = {
	.add = chip_appears,
	.remove = chip_goes,
};

static int __init flash_fault_init(void)
{
	register_mtd_user(&watcher);
	return 0;
}

static void __exit flash_fault_exit(void)
{
	unregister_mtd_user(&watcher);
}

module_init(flash_fault_init);
module_exit(flash_fault_exit);
MODULE_DESCRIPTION("Makes flash writes fail half-way through an update, for tests");
MODULE_LICENSE("GPL");
