// SPDX-License-Identifier: GPL-2.0
/*
 * Tells the kernel where QEMU's q35 machine keeps its firmware: a CFI flash chip of 2 MiB that ends at 4 GiB.
 *
 * QEMU's pflash drive is a complete Intel command set chip, but no ACPI table names it, so no driver binds to it.
 * This module names the memory and the kernel's own CFI drivers do the rest. It is loaded by the modalias of the
 * machine's LPC bridge, and like the drivers of real boards' firmware hubs it does not mind that some firmware (SeaBIOS)
 * declares the end of the chip as reserved memory: the platform driver physmap would refuse to share it.
 */
#include <linux/io.h>
#include <linux/module.h>
#include <linux/mtd/map.h>
#include <linux/mtd/mtd.h>
#include <linux/pci.h>

#define CHIP_START 0xffe00000
#define CHIP_SIZE  0x00200000

static struct map_info map = {
	.name = "bios",
	.phys = CHIP_START,
	.size = CHIP_SIZE,
	.bankwidth = 1,
};
static struct mtd_info *chip;

static const struct pci_device_id __maybe_unused lpc_bridges[] = {
	{ PCI_VDEVICE(INTEL, 0x2918) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lpc_bridges);
MODULE_SOFTDEP("pre: cfi_probe cfi_cmdset_0001");

static int __init bios_flash_init(void)
{
	int err = -ENODEV;

	map.virt = ioremap(CHIP_START, CHIP_SIZE);
	if (!map.virt)
		return -ENOMEM;
	simple_map_init(&map);
	chip = do_map_probe("cfi_probe", &map);
	if (!chip)
		goto unmap;
	chip->owner = THIS_MODULE;
	err = mtd_device_register(chip, NULL, 0);
	if (err)
		goto destroy;
	return 0;

destroy:
	map_destroy(chip);
unmap:
	iounmap(map.virt);
	return err;
}

static void __exit bios_flash_exit(void)
{
	mtd_device_unregister(chip);
	map_destroy(chip);
	iounmap(map.virt);
}

module_init(bios_flash_init);
module_exit(bios_flash_exit);
MODULE_DESCRIPTION("The firmware flash chip of QEMU's q35 machine");
MODULE_LICENSE("GPL");
