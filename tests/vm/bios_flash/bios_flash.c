// SPDX-License-Identifier: GPL-2.0
/*
 * Tells the kernel where QEMU's q35 machine keeps its firmware: a CFI flash chip of 2 MiB that ends at 4 GiB.
 *
 * QEMU's pflash drive is a complete Intel command set chip, but no ACPI table names it, so no driver binds to it.
 * This module names the memory; the kernel's own physmap and CFI drivers do the rest. It is loaded by the modalias
 * of the machine's LPC bridge, as the drivers of real boards' firmware hubs are.
 */
#include <linux/module.h>
#include <linux/mtd/physmap.h>
#include <linux/pci.h>
#include <linux/platform_device.h>

#define CHIP_START 0xffe00000
#define CHIP_SIZE  0x00200000

static struct resource chip = DEFINE_RES_MEM(CHIP_START, CHIP_SIZE);

static struct physmap_flash_data chip_data = {
	.width = 1,
	.probe_type = "cfi_probe",
};

static const struct pci_device_id __maybe_unused lpc_bridges[] = {
	{ PCI_VDEVICE(INTEL, 0x2918) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lpc_bridges);
MODULE_SOFTDEP("pre: physmap cfi_probe cfi_cmdset_0001");

static struct platform_device *device;

static int __init bios_flash_init(void)
{
	device = platform_device_register_resndata(NULL, "physmap-flash", 0, &chip, 1, &chip_data, sizeof(chip_data));
	return PTR_ERR_OR_ZERO(device);
}

static void __exit bios_flash_exit(void)
{
	platform_device_unregister(device);
}

module_init(bios_flash_init);
module_exit(bios_flash_exit);
MODULE_DESCRIPTION("The firmware flash chip of QEMU's q35 machine");
MODULE_LICENSE("GPL");
