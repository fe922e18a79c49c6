// SPDX-License-Identifier: GPL-2.0
/*
 * Tells the kernel where QEMU's q35 machine keeps its firmware: a CFI flash chip of 2 MiB that ends at 4 GiB, or two of 1 MiB on
 * the lab's board with two chips, or one of 4 MiB on its board with a management engine. There it also keeps the host from reading what the Intel flash descriptor at the
 * chip's start closes to it, as an Intel chipset does: such reads fail with EIO.
 *
 * QEMU's pflash drive is a complete Intel command set chip, but no ACPI table names it, so no driver binds to it.
 * This module names the memory and the kernel's own CFI drivers do the rest. It is loaded by the modalias of the
 * machine's LPC bridge, and like the drivers of real boards' firmware hubs it does not mind that some firmware (SeaBIOS)
 * declares the end of the chip as reserved memory: the platform driver physmap would refuse to share it.
 */
#include <linux/dmi.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/mtd/map.h>
#include <linux/mtd/mtd.h>
#include <linux/pci.h>

#define CHIP_END           0x100000000ULL
#define CHIP_SIZE          0x00200000
#define CHIP_SIZE_WITH_ME  0x00400000
#define BOARD_WITH_ME      "Virtual Server with ME"
#define BOARD_WITH_TWO     "Virtual Server with Two Chips"

#define DESCRIPTOR_SIGNATURE 0x0ff0a55a
#define ME_REGION            2

static struct map_info maps[2];
static struct mtd_info *chips[2];
/* That with the flash descriptor. */
static struct mtd_info *chip;
static loff_t closed_start, closed_end;
static int (*chip_read)(struct mtd_info *mtd, loff_t from, size_t len, size_t *retlen, u_char *buf);

static int guarded_read(struct mtd_info *mtd, loff_t from, size_t len, size_t *retlen, u_char *buf)
{
	if (from < closed_end && closed_start < from + len) {
		*retlen = 0;
		return -EIO;
	}
	return chip_read(mtd, from, len, retlen, buf);
}

static int read_word(loff_t at, u32 *word)
{
	__le32 raw;
	size_t got = 0;
	int err = chip_read(chip, at, sizeof(raw), &got, (u_char *)&raw);

	*word = le32_to_cpu(raw);
	return err ?: got == sizeof(raw) ? 0 : -EIO;
}

/* The layout of Sky Lake's descriptor: FLREGn at FRBA, FLMSTR1 at FMBA with the host's read access from bit 8 on. */
static int close_by_descriptor(void)
{
	u32 signature, map0, map1, me, master;
	int err;

	chip_read = chip->_read;
	err = read_word(0x10, &signature) ?: read_word(0x14, &map0) ?: read_word(0x18, &map1);
	if (err || signature != DESCRIPTOR_SIGNATURE)
		return err;
	err = read_word(((map0 >> 16 & 0xff) << 4) + 4 * ME_REGION, &me) ?: read_word((map1 & 0xff) << 4, &master);
	if (err || master >> (8 + ME_REGION) & 1)
		return err;
	closed_start = (loff_t)(me & 0x7fff) << 12;
	closed_end = ((loff_t)(me >> 16 & 0x7fff) + 1) << 12;
	chip->_read = guarded_read;
	pr_info("bios_flash: the host may not read 0x%llx-0x%llx\n", closed_start, closed_end - 1);
	return 0;
}

static const struct pci_device_id __maybe_unused lpc_bridges[] = {
	{ PCI_VDEVICE(INTEL, 0x2918) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lpc_bridges);
MODULE_SOFTDEP("pre: cfi_probe cfi_cmdset_0001");

static void forget(int nth)
{
	if (chips[nth])
		map_destroy(chips[nth]);
	if (maps[nth].virt)
		iounmap(maps[nth].virt);
	chips[nth] = NULL;
	maps[nth].virt = NULL;
}

static int add(int nth, const char *name, u64 start, u32 size)
{
	struct map_info *map = &maps[nth];
	int err = -ENODEV;

	map->name = name;
	map->bankwidth = 1;
	map->phys = start;
	map->size = size;
	map->virt = ioremap(start, size);
	if (!map->virt)
		return -ENOMEM;
	simple_map_init(map);
	chips[nth] = do_map_probe("cfi_probe", map);
	if (!chips[nth])
		goto forget;
	chips[nth]->owner = THIS_MODULE;
	if (nth == 0) {
		chip = chips[0];
		err = close_by_descriptor();
		if (err)
			goto forget;
	}
	err = mtd_device_register(chips[nth], NULL, 0);
	if (!err)
		return 0;
forget:
	forget(nth);
	return err;
}

static void remove(int nth)
{
	if (chips[nth])
		mtd_device_unregister(chips[nth]);
	forget(nth);
}

static int __init bios_flash_init(void)
{
	u32 size = dmi_match(DMI_PRODUCT_NAME, BOARD_WITH_ME) ? CHIP_SIZE_WITH_ME : CHIP_SIZE;
	int err;

	if (!dmi_match(DMI_PRODUCT_NAME, BOARD_WITH_TWO))
		return add(0, "bios", CHIP_END - size, size);
	err = add(0, "bios-low", CHIP_END - size, size / 2);
	if (err)
		return err;
	err = add(1, "bios-high", CHIP_END - size / 2, size / 2);
	if (err)
		remove(0);
	return err;
}

static void __exit bios_flash_exit(void)
{
	remove(1);
	remove(0);
}

module_init(bios_flash_init);
module_exit(bios_flash_exit);
MODULE_DESCRIPTION("The firmware flash chip of QEMU's q35 machine");
MODULE_LICENSE("GPL");
