package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/index"
)

// uidSet is a set of UIDs in the notation of IMAP: 1:5,9,12:*.
type uidSet []uidRange

// uidRange is from one UID to another. A single one was named by itself, and has to be there.
type uidRange struct {
	from, to index.UID
	single   bool
}

// lastUID stands for "*", the last message of the mailbox.
const lastUID = ^index.UID(0)

func parseUIDSet(args []string) (set uidSet, err error) {
	for _, arg := range args {
		for part := range strings.SplitSeq(arg, ",") {
			first, last, isRange := strings.Cut(part, ":")
			r := uidRange{single: !isRange}
			if r.from, err = parseUID(first); err != nil {
				return nil, usageError("not a set of UIDs: %q", arg)
			}
			if r.to = r.from; isRange {
				if r.to, err = parseUID(last); err != nil {
					return nil, usageError("not a set of UIDs: %q", arg)
				}
			}
			if r.from > r.to {
				r.from, r.to = r.to, r.from
			}
			set = append(set, r)
		}
	}
	return set, nil
}

func parseUID(s string) (index.UID, error) {
	if s == "*" {
		return lastUID, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("not a UID: %q", s)
	}
	return index.UID(n), nil
}

// pick returns the UIDs of the set among those of a mailbox, which are in ascending order, each once. UIDs in a range need
// not be there; one that was named by itself, and is not, is an error.
func (set uidSet) pick(all []index.UID) (uids []index.UID, err error) {
	for _, r := range set {
		if len(all) > 0 {
			// "*" is the last message, and "9:*" includes it even if 9 is beyond it.
			if r.to == lastUID {
				r.to = all[len(all)-1]
				r.from = min(r.from, r.to)
			}
		}
		i, found := slices.BinarySearch(all, r.from)
		if r.single && !found {
			return nil, fmt.Errorf("UID %s: %w", uidText(r.from), index.ErrNotFound)
		}
		for ; i < len(all) && all[i] <= r.to; i++ {
			uids = append(uids, all[i])
		}
	}
	slices.SortFunc(uids, cmp.Compare[index.UID])
	return slices.Compact(uids), nil
}

func uidText(uid index.UID) string {
	if uid == lastUID {
		return "*"
	}
	return fmt.Sprint(uid)
}

// messagesOf lists the UIDs of the messages that are wanted.
func messagesOf(ctx context.Context, m *index.Mailbox, set uidSet, wanted func(index.Flags) bool) ([]index.UID, error) {
	if err := m.Refresh(ctx); err != nil {
		return nil, err
	}
	var all []index.UID
	for msg, err := range m.Messages(ctx) {
		if err != nil {
			return nil, err
		}
		if wanted(msg.Flags) {
			all = append(all, msg.UID)
		}
	}
	return set.pick(all)
}
