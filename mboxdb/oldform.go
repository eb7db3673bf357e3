package mboxdb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/internal/dlist"
)

// Form is one of the forms in which releases of Cyrus have written the list.
type Form int

const (
	// Form36 is that of Cyrus 3.6 and later: keys by class, two records a mailbox.
	Form36 Form = iota
	// Form25 is that of Cyrus 2.5 to 3.4: keys are internal names, values key/value lists.
	Form25
	// Form20 is that of Cyrus 2.0 to 2.4: keys are internal names, values text.
	Form20
)

// String names the releases.
func (f Form) String() string {
	return [...]string{"Cyrus 3.6", "Cyrus 2.5 to 3.4", "Cyrus 2.0 to 2.4"}[f]
}

// The keys of old lists that are not names.
const (
	oldRACLPrefix = "$RACL"
	oldIDMarker   = "$RUNQ"
)

// typeBits are the numbers of Form20's types and the letters they became.
var typeBits = []struct {
	bit    uint64
	letter byte
}{
	{1, 'r'}, {2, 'z'}, {4, 'n'}, {8, 'm'}, {16, 'd'}, {32, 'c'}, {64, 'a'}, {128, 'b'}, {256, 'i'}, {512, 's'}, {1024, 'p'},
}

// kindLetters are the letters that say what a mailbox is.
const kindLetters = "enbcaspfj"

// oldType adds to letters of an old record what they leave out: that it is for mail, and lies in a directory by its name.
func oldType(letters string) Type {
	kind := "e"
	if i := strings.IndexAny(letters, kindLetters); i >= 0 {
		kind = letters[i : i+1]
		letters = letters[:i] + letters[i+1:]
	}
	return Type(kind + letters).With('l')
}

// DecodeOld reads the record of a mailbox in one of the forms before 3.6, which the first byte of the value tells.
func DecodeOld(key, value []byte) (Record, Form, error) {
	rec := Record{Name: InternalName(string(key))}
	switch {
	case len(key) == 0:
		return rec, Form20, &RecordError{Key: "", Offset: -1, Problem: "the key is empty"}
	case len(value) > 0 && value[0] == '%':
		rec, err := decode25(key, value)
		return rec, Form25, err
	}
	rec, err := decode20(key, value)
	return rec, Form20, err
}

func decode25(key, value []byte) (Record, error) {
	list, err := parseValue(key, value)
	if err != nil {
		return Record{}, err
	}
	r := reader{key: key, list: list}
	rec := r.common()
	rec.Name, rec.UniqueID = InternalName(string(key)), r.text(fieldID)
	rec.Type = oldType(string(rec.Type))
	return rec, r.err
}

// decode20 reads "TYPE PARTITION ACL", with "(name value ...) " before it in the extended form.
func decode20(key, value []byte) (Record, error) {
	rec := Record{Name: InternalName(string(key))}
	rest := string(value)
	fail := func(format string, args ...any) (Record, error) {
		return rec, &RecordError{Key: string(key), Offset: len(value) - len(rest), Problem: fmt.Sprintf(format, args...)}
	}
	if strings.HasPrefix(rest, "(") {
		inner, after, found := strings.Cut(rest[1:], ") ")
		if !found {
			return fail("the extended fields have no end")
		}
		words := strings.Split(inner, " ")
		for i := 0; i+1 < len(words); i += 2 {
			if words[i] == "uniqueid" {
				rec.UniqueID = words[i+1]
			}
		}
		rest = after
	}
	number, after, found := strings.Cut(rest, " ")
	bits, err := strconv.ParseUint(number, 10, 32)
	if !found || err != nil {
		return fail("expected the type, a number and a space")
	}
	rec.Type = typeOf(bits)
	rest = after
	partition, acl, found := strings.Cut(rest, " ")
	if !found {
		return fail("expected the partition and a space")
	}
	if server, local, remote := strings.Cut(partition, "!"); remote {
		rec.Server, partition = server, local
	}
	rec.Partition = partition
	rest = acl
	if rec.ACL, err = ParseACL(acl); err != nil {
		return fail("%v", err)
	}
	if rec.ACL == nil && !rec.Type.Deleted() {
		rec.ACL = ACL{}
	}
	return rec, nil
}

func typeOf(bits uint64) Type {
	var letters []byte
	for _, t := range typeBits {
		if bits&t.bit != 0 {
			letters = append(letters, t.letter)
		}
	}
	return oldType(string(letters))
}

// oldLetters are the letters of a type in Form25: without those that came with 3.6.
func oldLetters(t Type) string {
	return strings.NewReplacer("e", "", "l", "", "f", "").Replace(string(t))
}

// ErrOldForm means that a record has something that an old form cannot say.
var ErrOldForm = errors.New("an old form of the list cannot say this")

// EncodeOld is the key and the value of the record in an old form.
func (r Record) EncodeOld(form Form) (key, value []byte, err error) {
	key = []byte(r.Name.String())
	if form == Form20 {
		value, err = r.encode20()
		return key, value, err
	}
	fields := dlist.NewKVList()
	add := func(key string, n *dlist.Node) { fields.Items = append(fields.Items, n.Named(key)) }
	text := func(key, s string) {
		if s != "" {
			add(key, dlist.NewString(s))
		}
	}
	number := func(key string, v uint64) {
		if v != 0 {
			add(key, dlist.NewUint(v))
		}
	}
	if r.ACL != nil {
		add(fieldACL, r.ACL.node())
	}
	text(fieldID, r.UniqueID)
	text(fieldPartition, r.Partition)
	text(fieldServer, r.Server)
	text(fieldType, oldLetters(r.Type))
	number(fieldUIDValidity, uint64(r.UIDValidity))
	number(fieldCreated, r.CreatedModSeq)
	number(fieldFolder, r.FolderModSeq)
	add(fieldModified, dlist.NewUint(uint64(max(r.Modified, 0))))
	return key, fields.Append(nil), nil
}

func (r Record) encode20() ([]byte, error) {
	bits := uint64(0)
	for i := range len(oldLetters(r.Type)) {
		letter, known := oldLetters(r.Type)[i], false
		for _, t := range typeBits {
			if t.letter == letter {
				bits |= t.bit
				known = true
			}
		}
		if !known {
			return nil, fmt.Errorf("type %q: %w", r.Type, ErrOldForm)
		}
	}
	partition := r.Partition
	if r.Server != "" {
		partition = r.Server + "!" + partition
	}
	text := fmt.Sprintf("%d %s %s", bits, partition, r.ACL)
	if r.UniqueID != "" {
		text = "(uniqueid " + r.UniqueID + ") " + text
	}
	return []byte(text), nil
}
