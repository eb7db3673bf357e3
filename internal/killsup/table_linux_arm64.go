package killsup

import "golang.org/x/sys/unix"

// auditArch is the architecture that the filter lets in.
const auditArch = unix.AUDIT_ARCH_AARCH64

// legacyTable is empty: this architecture has the -at forms only.
var legacyTable []spec
