/* The baseline of an update: kexecs a kernel with an initramfs (nothing KERNEL INITRAMFS WORDS), and as that one's init does nothing but
   say so and reset the machine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (getpid() == 1) {
		puts("nothing: init");
		fflush(stdout);
		return reboot(RB_AUTOBOOT);
	}
	if (argc != 4)
		return 2;
	int kernel = open(argv[1], O_RDONLY), initramfs = open(argv[2], O_RDONLY);
	puts("nothing: loading");
	fflush(stdout);
	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[3]) + 1, argv[3], 0UL) == 0) {
		puts("nothing: loaded");
		fflush(stdout);
		sync();
		reboot(RB_KEXEC);
	}
	perror("nothing");
	return 1;
}
