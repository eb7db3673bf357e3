package store

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// keeper keeps the accounts of quota roots in memory.
type keeper struct {
	used      map[string]index.Usage
	refuse    error
	broken    error // of Apply
	recounted []string
	undone    int
}

type pledged struct {
	k *keeper
	u index.Usage
}

func (k *keeper) Begin(_ context.Context, u index.Usage) (index.Pledge, error) {
	if k.refuse != nil && u.Folder > 0 {
		return nil, k.refuse
	}
	return pledged{k, u}, nil
}

func (k *keeper) Recover(_ context.Context, journal []byte) error {
	k.recounted = append(k.recounted, string(journal))
	return nil
}

func (k *keeper) Settle(context.Context) error { return nil }

func (p pledged) Journal() []byte { return []byte(p.u.QuotaRoot) }
func (p pledged) Undo() error     { p.k.undone++; return nil }
func (p pledged) Leave()          {}

func (p pledged) Apply(context.Context) error {
	if p.k.broken != nil {
		return p.k.broken
	}
	u := p.k.used[p.u.QuotaRoot]
	u.Bytes, u.Messages, u.Folder = u.Bytes+p.u.Bytes, u.Messages+p.u.Messages, u.Folder+p.u.Folder
	p.k.used[p.u.QuotaRoot] = u
	return nil
}

// TestQuotaKeeper: who keeps the accounts of quota roots consents to a change or refuses it, moves the usage of mailboxes
// with them, and counts anew what a crash leaves open.
func TestQuotaKeeper(t *testing.T) {
	disk := newDisk(t, "uuid", simfs.Options{})
	require.NoError(t, furnish(t, disk).Close())
	k := &keeper{used: map[string]index.Usage{}}
	open := func(k index.Participant) *Store {
		st, err := Open(ctx, config(t, disk), Options{FS: disk, Quota: k})
		require.NoError(t, err)
		t.Cleanup(func() { _ = st.Close() })
		return st
	}
	st := open(k)
	before, err := see(st)
	require.NoError(t, err)
	rename := Renaming{From: name("user.alice.a"), To: name("user.alice.b.c")}
	over := errors.New("over quota")
	k.refuse = over
	_, err = st.Rename(ctx, rename)
	require.ErrorIs(t, err, over)
	now, err := see(st)
	require.NoError(t, err)
	require.Equal(t, before, now)

	k.refuse = nil
	_, err = st.Rename(ctx, rename)
	require.NoError(t, err)
	u := k.used["user.alice.b"]
	require.Equal(t, []int64{3, 3}, []int64{u.Messages, u.Folder}, "two mailboxes, and the one above them")
	require.Positive(t, u.Bytes)

	k.broken = errors.New("disk")
	_, err = st.Delete(ctx, Deletion{Name: name("user.alice.b.c"), Recursive: true})
	require.NoError(t, err, "it is made")
	require.Empty(t, k.recounted)
	alone, err := Open(ctx, config(t, disk), Options{FS: disk})
	require.NoError(t, err)
	_, err = alone.Recover(ctx)
	require.ErrorIs(t, err, errNotCounted, "the root must not be forgotten by who keeps no accounts")
	require.NoError(t, alone.Close())
	k.broken = nil
	done, err := st.Recover(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, done.Steps)
	require.Equal(t, []string{"user.alice.b"}, k.recounted)
	require.NoError(t, settled(st))

	_, err = st.Delete(ctx, Deletion{Name: name("user.alice.b"), Immediate: true})
	require.NoError(t, err)
	require.EqualValues(t, 2, k.used["user.alice.b"].Folder, "what was not applied is for the one who counts anew")
}
