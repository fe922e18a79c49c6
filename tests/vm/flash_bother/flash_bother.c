// SPDX-License-Identifier: GPL-2.0
/*
 * Asks for the end of the machine while its flash is written, in every way that a person at its keyboard or a service has.
 *
 * It brings a keyboard of its own. When it is loaded it presses Alt+SysRq+H, to show that the keys work. During writes to the
 * first NOR chip that appears it presses ctrl-alt-del, sends init SIGTERM and SIGPWR, and presses Alt+SysRq+H and +B (reboot
 * at once).
 */
#include <linux/input.h>
#include <linux/module.h>
#include <linux/mtd/mtd.h>
#include <linux/sched/signal.h>

#define WRITE_OF_CTRL_ALT_DEL 3
#define WRITE_OF_SIGNALS 6
#define WRITE_OF_SYSRQ 9

static struct input_dev *keyboard;
static struct mtd_info *victim;
static unsigned int writes;
static int (*chip_write)(struct mtd_info *mtd, loff_t to, size_t len, size_t *retlen, const u_char *buf);

static void press(const unsigned int *keys, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		input_report_key(keyboard, keys[i], 1);
		input_sync(keyboard);
	}
	for (i = count - 1; i >= 0; i--) {
		input_report_key(keyboard, keys[i], 0);
		input_sync(keyboard);
	}
}

static const unsigned int ctrl_alt_del[] = { KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE };
static const unsigned int sysrq_help[] = { KEY_LEFTALT, KEY_SYSRQ, KEY_H };
static const unsigned int sysrq_reboot[] = { KEY_LEFTALT, KEY_SYSRQ, KEY_B };

static int bothered_write(struct mtd_info *mtd, loff_t to, size_t len, size_t *retlen, const u_char *buf)
{
	switch (++writes) {
	case WRITE_OF_CTRL_ALT_DEL:
		pr_info("flash_bother: ctrl-alt-del\n");
		press(ctrl_alt_del, ARRAY_SIZE(ctrl_alt_del));
		break;
	case WRITE_OF_SIGNALS:
		pr_info("flash_bother: SIGTERM and SIGPWR to init\n");
		kill_cad_pid(SIGTERM, 1);
		kill_cad_pid(SIGPWR, 1);
		break;
	case WRITE_OF_SYSRQ:
		pr_info("flash_bother: Alt+SysRq+H, Alt+SysRq+B\n");
		press(sysrq_help, ARRAY_SIZE(sysrq_help));
		press(sysrq_reboot, ARRAY_SIZE(sysrq_reboot));
		break;
	}
	return chip_write(mtd, to, len, retlen, buf);
}

static void chip_appears(struct mtd_info *mtd)
{
	if (victim || mtd->type != MTD_NORFLASH || !mtd->_write || mtd_is_partition(mtd))
		return;
	victim = mtd;
	chip_write = mtd->_write;
	mtd->_write = bothered_write;
}

static void chip_goes(struct mtd_info *mtd)
{
	if (mtd != victim)
		return;
	mtd->_write = chip_write;
	victim = NULL;
}

static struct mtd_notifier watcher = {
	.add = chip_appears,
	.remove = chip_goes,
};

static int __init flash_bother_init(void)
{
	unsigned int key;
	int error;

	keyboard = input_allocate_device();
	if (!keyboard)
		return -ENOMEM;
	keyboard->name = "flash_bother";
	__set_bit(EV_KEY, keyboard->evbit);
	for (key = KEY_ESC; key <= KEY_DELETE; key++)
		__set_bit(key, keyboard->keybit);
	error = input_register_device(keyboard);
	if (error) {
		input_free_device(keyboard);
		return error;
	}
	press(sysrq_help, ARRAY_SIZE(sysrq_help));
	register_mtd_user(&watcher);
	return 0;
}

static void __exit flash_bother_exit(void)
{
	unregister_mtd_user(&watcher);
	input_unregister_device(keyboard);
}

module_init(flash_bother_init);
module_exit(flash_bother_exit);
MODULE_DESCRIPTION("Asks for a reboot while flash is written, for tests");
MODULE_LICENSE("GPL");
