#!/bin/sh
# Hook of dracut, sourced by its shell: nothing here may exit.
read -r firmcast_cmdline </proc/cmdline
case " $firmcast_cmdline" in
*' firmcast.recover='*)
	# shellcheck source=/dev/null
	. /usr/share/firmcast/run-hook
	firmcast_hook "$firmcast_cmdline"
	;;
esac
unset firmcast_cmdline
