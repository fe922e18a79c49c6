// SPDX-License-Identifier: GPL-2.0
/*
 * Tells the kernel of the second flash chip of QEMU's q35 machine (pflash unit 1), which lies right below the first: a
 * bank that can be broken while the machine starts from the other one.
 *
 * Here the kernel's own platform driver physmap takes the chip, so that it can be unbound from it at any time.
 */
#include <linux/err.h>
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/mtd/physmap.h>
#include <linux/platform_device.h>

static struct physmap_flash_data chip = {
	.width = 1,
	.probe_type = "cfi_probe",
};
static const struct resource memory = DEFINE_RES_MEM(0xffc00000, 0x00200000);
static struct platform_device *bank;

static int __init second_bank_init(void)
{
	bank = platform_device_register_resndata(NULL, "physmap-flash", PLATFORM_DEVID_NONE, &memory, 1, &chip, sizeof(chip));
	return PTR_ERR_OR_ZERO(bank);
}

static void __exit second_bank_exit(void)
{
	platform_device_unregister(bank);
}

module_init(second_bank_init);
module_exit(second_bank_exit);
MODULE_SOFTDEP("pre: physmap cfi_probe cfi_cmdset_0001");
MODULE_DESCRIPTION("The second flash chip of QEMU's q35 machine");
MODULE_LICENSE("GPL");
