package killsup

import "golang.org/x/sys/unix"

// auditArch is the architecture that the filter lets in.
const auditArch = unix.AUDIT_ARCH_X86_64

// legacyTable lists the calls that newer architectures replaced by their -at forms.
var legacyTable = []spec{
	{nr: unix.SYS_OPEN, name: "open", path: 1, openFlags: 2},
	{nr: unix.SYS_CREAT, name: "creat", path: 1},
	{nr: unix.SYS_RENAME, name: "rename", path: 1, path2: 2},
	{nr: unix.SYS_UNLINK, name: "unlink", path: 1},
	{nr: unix.SYS_RMDIR, name: "rmdir", path: 1},
	{nr: unix.SYS_MKDIR, name: "mkdir", path: 1},
	{nr: unix.SYS_MKNOD, name: "mknod", path: 1},
	{nr: unix.SYS_LINK, name: "link", path: 1, path2: 2},
	{nr: unix.SYS_SYMLINK, name: "symlink", path: 2},
	{nr: unix.SYS_CHMOD, name: "chmod", path: 1},
	{nr: unix.SYS_CHOWN, name: "chown", path: 1},
	{nr: unix.SYS_LCHOWN, name: "lchown", path: 1},
}
