package mboxdb

import "strings"

// The classes of keys, by their first byte, since Cyrus 3.6.
const (
	nameClass = 'N' // a mailbox under its name
	idClass   = 'I' // a mailbox under its unique id
	raclClass = 'A' // a reverse ACL: an identifier that may see a mailbox
	jmapClass = 'J' // a mailbox under its JMAP id (after 3.12)
)

// raclMarker stands in the database if it has reverse ACLs; then every writer has to keep them.
const raclMarker = "AS\x1e"

func nameKey(n Name) []byte  { return append([]byte{nameClass}, n.db...) }
func idKey(id string) []byte { return append([]byte{idClass}, id...) }

// raclKey is the key by which identifier finds the mailbox n.
func raclKey(ns Namespace, identifier string, n Name) []byte {
	class := byte('S')
	if n.User(ns) != "" {
		class = 'U'
	}
	return []byte(string(raclClass) + string(class) + string(recordSep) + identifier + string(recordSep) + n.db)
}

// splitRACL takes a reverse ACL key apart.
func splitRACL(key []byte) (identifier string, n Name, ok bool) {
	parts := strings.SplitN(string(key), string(recordSep), 3)
	if len(parts) != 3 || parts[0] != "AU" && parts[0] != "AS" || parts[1] == "" {
		return "", Name{}, false
	}
	return parts[1], Name{parts[2]}, true
}
