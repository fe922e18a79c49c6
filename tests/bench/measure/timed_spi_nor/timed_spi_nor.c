// SPDX-License-Identifier: GPL-2.0
/*
 * A Winbond W25Q16JV-IM (2 MiB, SPI NOR) behind an SPI controller of its own, which takes as long as the datasheet says: for the
 * bench of rewrites, because QEMU's chips erase and program in no time. The kernel's own spi-nor driver drives it.
 *
 * The cells are the shared memory of QEMU's device ivshmem-plain, so that its file on the host is what the chip holds.
 *
 * Modelled:
 * - the bus: each operation takes its clocks, with address, dummy cycles and data, on as many lines as it says;
 * - erase (4 KiB, 32 KiB, 64 KiB, the chip), page program and status writes: typical times, whatever the cells held. Until their
 *   end the status shows WIP, and the chip ignores everything but a read of its status;
 * - write enable; programs that only clear bits and wrap in their page; block protection (BP, TB, SEC, CMP) and quad enable.
 * Unknown instructions are ignored, and so are those that the chip would not carry out: what is read then is 0xff.
 *
 * Not modelled: SFDP (the kernel's table knows the chip), suspend, OTP, power-down, locks of single blocks (WPS), the WP pin, the
 * spread of the times and their growth with wear. The contents change when an operation begins, the status registers are new
 * with each load.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mtd/spi-nor.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/spi/flash.h>
#include <linux/spi/spi-mem.h>

/* QEMU's docs/specs/ivshmem-spec: the shared memory is BAR 2. */
#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110
#define IVSHMEM_MEMORY 2

#define CHIP_SIZE      SZ_2M
#define PAGE_BYTES     256
/* Of one operation. */
#define DATA_BYTES_MAX SZ_64K

/* Status register 1. */
#define BP_SHIFT 2
#define BP_MASK  0x07
#define SR1_TB   BIT(5)
#define SR1_SEC  BIT(6)
#define SR1_OWN  (SR_WIP | SR_WEL)
/* Status register 2. */
#define SR2_SRL  BIT(0)
#define SR2_QE   BIT(1)
#define SR2_CMP  BIT(6)
#define OP_WRSR2 0x31

/* Waits shorter than this are spun, and the ends of longer ones, because a sleep ends late. */
#define SPIN_US  150

/* Typical times: W25Q16JV, AC electrical characteristics. */
static unsigned int clock_hz = 50000000;
module_param(clock_hz, uint, 0444);
MODULE_PARM_DESC(clock_hz, "clock of the bus");
static unsigned int lines = 4;
module_param(lines, uint, 0444);
MODULE_PARM_DESC(lines, "lines on which data can be read: 1, 2 or 4");
static unsigned int page_us = 400;
module_param(page_us, uint, 0444);
MODULE_PARM_DESC(page_us, "a page program, of any length (tPP)");
static unsigned int erase_4k_us = 45000;
module_param(erase_4k_us, uint, 0444);
MODULE_PARM_DESC(erase_4k_us, "an erase of 4 KiB (tSE)");
static unsigned int erase_32k_us = 120000;
module_param(erase_32k_us, uint, 0444);
MODULE_PARM_DESC(erase_32k_us, "an erase of 32 KiB (tBE1)");
static unsigned int erase_64k_us = 150000;
module_param(erase_64k_us, uint, 0444);
MODULE_PARM_DESC(erase_64k_us, "an erase of 64 KiB (tBE2)");
static unsigned int erase_chip_us = 5000000;
module_param(erase_chip_us, uint, 0444);
MODULE_PARM_DESC(erase_chip_us, "an erase of the chip (tCE)");
static unsigned int status_us = 10000;
module_param(status_us, uint, 0444);
MODULE_PARM_DESC(status_us, "a write of the status registers (tW)");
/* A count, and so the same on a busy machine: what waits too long, or asks too late whether the chip is ready, adds nothing. */
static unsigned long long spent_ns;
module_param(spent_ns, ullong, 0444);
MODULE_PARM_DESC(spent_ns, "what operations and transfers have taken by these times; transfers during an operation apart");

static const u8 id[] = { 0xef, 0x70, 0x15 };

struct chip {
	u8 *cells;
	u8 status1, status2;
	bool write_enabled;
	ktime_t ready;
};

static struct chip *chip_of(struct spi_mem *mem)
{
	return spi_controller_get_devdata(mem->spi->controller);
}

static bool is_protected(const struct chip *chip, u32 start, u32 length)
{
	u32 nth = chip->status1 >> BP_SHIFT & BP_MASK, size = 0, first, end = start + length;

	if (nth >= 6)
		size = CHIP_SIZE;
	else if (nth)
		size = chip->status1 & SR1_SEC ? min_t(u32, SZ_4K << (nth - 1), SZ_32K) : SZ_64K << (nth - 1);
	first = chip->status1 & SR1_TB ? 0 : CHIP_SIZE - size;
	if (chip->status2 & SR2_CMP)
		return start < first || end > first + size;
	return start < first + size && end > first;
}

static void keep_busy(struct chip *chip, ktime_t transferred, unsigned int time_us)
{
	chip->ready = ktime_add_us(transferred, time_us);
	spent_ns += (u64)time_us * NSEC_PER_USEC;
}

/* One write enable is for one instruction. Winbond does not say that a refused one ends it, too. */
static bool may_change(struct chip *chip, u32 start, u32 length)
{
	bool may = chip->write_enabled && !is_protected(chip, start, length);

	chip->write_enabled = false;
	return may;
}

static void erase(struct chip *chip, u32 at, u32 length, ktime_t transferred, unsigned int time_us)
{
	u32 start = round_down(at % CHIP_SIZE, length);

	if (!may_change(chip, start, length))
		return;
	memset(chip->cells + start, 0xff, length);
	keep_busy(chip, transferred, time_us);
}

static void program(struct chip *chip, u32 at, const u8 *data, u32 length, ktime_t transferred)
{
	u32 page = round_down(at % CHIP_SIZE, PAGE_BYTES), nth;
	u8 latch[PAGE_BYTES];

	if (!length || !may_change(chip, page, PAGE_BYTES))
		return;
	/* The page's latch wraps, and of two bytes for the same cell holds the later one. */
	memset(latch, 0xff, sizeof(latch));
	for (nth = 0; nth < length; nth++)
		latch[(at + nth) % PAGE_BYTES] = data[nth];
	for (nth = 0; nth < PAGE_BYTES; nth++)
		chip->cells[page + nth] &= latch[nth];
	keep_busy(chip, transferred, page_us);
}

static void read(const struct chip *chip, const struct spi_mem_op *op)
{
	u32 start = op->addr.val % CHIP_SIZE, piece = min_t(u32, op->data.nbytes, CHIP_SIZE - start);

	if (op->data.dir != SPI_MEM_DATA_IN)
		return;
	memcpy(op->data.buf.in, chip->cells + start, piece);
	/* Behind its end the chip begins anew. */
	memcpy(op->data.buf.in + piece, chip->cells, op->data.nbytes - piece);
}

static void write_status(struct chip *chip, u8 opcode, const u8 *data, u32 length, ktime_t transferred)
{
	if (!length || !chip->write_enabled)
		return;
	chip->write_enabled = false;
	if (chip->status2 & SR2_SRL)
		return;
	if (opcode == OP_WRSR2)
		chip->status2 = data[0];
	else
		chip->status1 = data[0] & ~SR1_OWN;
	if (opcode == SPINOR_OP_WRSR && length > 1)
		chip->status2 = data[1];
	keep_busy(chip, transferred, status_us);
}

static void answer(const struct spi_mem_op *op, const u8 *bytes, u32 count)
{
	u32 nth;

	if (op->data.dir != SPI_MEM_DATA_IN)
		return;
	/* The chip repeats itself as long as there are clocks. */
	for (nth = 0; nth < op->data.nbytes; nth++)
		((u8 *)op->data.buf.in)[nth] = bytes[nth % count];
}

static void obey_when_ready(struct chip *chip, const struct spi_mem_op *op, ktime_t transferred)
{
	const u8 *sent = op->data.dir == SPI_MEM_DATA_OUT ? op->data.buf.out : NULL;
	u32 at = op->addr.val, sent_bytes = sent ? op->data.nbytes : 0;

	switch (op->cmd.opcode) {
	case SPINOR_OP_RDID:
		answer(op, id, sizeof(id));
		break;
	case SPINOR_OP_READ_1_1_4:
		if (!(chip->status2 & SR2_QE))
			break;
		fallthrough;
	case SPINOR_OP_READ:
	case SPINOR_OP_READ_FAST:
	case SPINOR_OP_READ_1_1_2:
		read(chip, op);
		break;
	case SPINOR_OP_WREN:
		chip->write_enabled = true;
		break;
	case SPINOR_OP_WRDI:
		chip->write_enabled = false;
		break;
	case SPINOR_OP_WRSR:
	case OP_WRSR2:
		write_status(chip, op->cmd.opcode, sent, sent_bytes, transferred);
		break;
	case SPINOR_OP_PP:
		program(chip, at, sent, sent_bytes, transferred);
		break;
	case SPINOR_OP_BE_4K:
		erase(chip, at, SZ_4K, transferred, erase_4k_us);
		break;
	case SPINOR_OP_BE_32K:
		erase(chip, at, SZ_32K, transferred, erase_32k_us);
		break;
	case SPINOR_OP_SE:
		erase(chip, at, SZ_64K, transferred, erase_64k_us);
		break;
	case SPINOR_OP_CHIP_ERASE:
		erase(chip, 0, CHIP_SIZE, transferred, erase_chip_us);
		break;
	}
}

static void obey(struct chip *chip, const struct spi_mem_op *op, bool busy, ktime_t transferred)
{
	u8 status1 = chip->status1 | (busy ? SR1_OWN : chip->write_enabled ? SR_WEL : 0);

	if (op->data.dir == SPI_MEM_DATA_IN)
		memset(op->data.buf.in, 0xff, op->data.nbytes);
	if (op->cmd.opcode == SPINOR_OP_RDSR)
		answer(op, &status1, 1);
	else if (op->cmd.opcode == SPINOR_OP_RDCR)
		answer(op, &chip->status2, 1);
	else if (!busy)
		obey_when_ready(chip, op, transferred);
}

static void wait_until(ktime_t end)
{
	s64 left_us = ktime_us_delta(end, ktime_get());

	if (left_us > SPIN_US)
		usleep_range(left_us - SPIN_US, left_us - SPIN_US / 2);
	while (ktime_before(ktime_get(), end))
		cpu_relax();
}

static u32 clocks(u32 bytes, u8 on_lines)
{
	return bytes ? bytes * 8 / on_lines : 0;
}

static int exec_op(struct spi_mem *mem, const struct spi_mem_op *op)
{
	u64 count = clocks(op->cmd.nbytes, op->cmd.buswidth) + clocks(op->addr.nbytes, op->addr.buswidth) +
		    clocks(op->dummy.nbytes, op->dummy.buswidth) + clocks(op->data.nbytes, op->data.buswidth);
	u64 transfer_ns = div_u64(count * NSEC_PER_SEC, clock_hz);
	ktime_t now = ktime_get(), transferred = ktime_add_ns(now, transfer_ns);
	struct chip *chip = chip_of(mem);
	bool busy = ktime_before(now, chip->ready);

	if (!busy)
		spent_ns += transfer_ns;
	obey(chip, op, busy, transferred);
	wait_until(transferred);
	return 0;
}

/* Instruction and address on one line, as the chip's instructions without "I/O" in their names have them; it has no others here. */
static bool supports_op(struct spi_mem *mem, const struct spi_mem_op *op)
{
	return op->cmd.buswidth == 1 && op->addr.buswidth <= 1 && op->addr.nbytes <= 3 && spi_mem_default_supports_op(mem, op);
}

static int adjust_op_size(struct spi_mem *mem, struct spi_mem_op *op)
{
	op->data.nbytes = min_t(unsigned int, op->data.nbytes, DATA_BYTES_MAX);
	return 0;
}

static const struct spi_controller_mem_ops operations = {
	.adjust_op_size = adjust_op_size,
	.supports_op = supports_op,
	.exec_op = exec_op,
};

static struct flash_platform_data flash = { .name = "timed" };

static int timed_spi_nor_probe(struct pci_dev *pci, const struct pci_device_id *found)
{
	struct spi_board_info board = {
		.modalias = "spi-nor",
		.platform_data = &flash,
		.max_speed_hz = clock_hz,
		.mode = lines >= 4 ? SPI_RX_QUAD : lines >= 2 ? SPI_RX_DUAL : 0,
	};
	struct spi_controller *controller;
	struct chip *chip;
	int err;

	if (!clock_hz || pci_resource_len(pci, IVSHMEM_MEMORY) != CHIP_SIZE)
		return -EINVAL;
	err = pcim_enable_device(pci);
	if (err)
		return err;
	controller = devm_spi_alloc_host(&pci->dev, sizeof(*chip));
	if (!controller)
		return -ENOMEM;
	chip = spi_controller_get_devdata(controller);
	chip->cells = devm_memremap(&pci->dev, pci_resource_start(pci, IVSHMEM_MEMORY), CHIP_SIZE, MEMREMAP_WB);
	if (IS_ERR(chip->cells))
		return PTR_ERR(chip->cells);
	controller->bus_num = -1;
	controller->num_chipselect = 1;
	controller->mode_bits = SPI_RX_DUAL | SPI_RX_QUAD;
	controller->mem_ops = &operations;
	err = devm_spi_register_controller(&pci->dev, controller);
	if (err)
		return err;
	return spi_new_device(controller, &board) ? 0 : -ENODEV;
}

static const struct pci_device_id memories[] = {
	{ PCI_DEVICE(IVSHMEM_VENDOR, IVSHMEM_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, memories);

static struct pci_driver timed_spi_nor = {
	.name = "timed_spi_nor",
	.id_table = memories,
	.probe = timed_spi_nor_probe,
};
module_pci_driver(timed_spi_nor);
MODULE_SOFTDEP("pre: spi-nor");
MODULE_DESCRIPTION("An SPI NOR chip in memory that takes a datasheet's times");
MODULE_LICENSE("GPL");
