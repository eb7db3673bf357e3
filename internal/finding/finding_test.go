package finding

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    Finding
		text string
		json string
	}{
		{Finding{Code: "torn-tail", Severity: Warning, Path: "m.db", Offset: 4096, Detail: "found x", Fix: "recover"},
			"warning torn-tail m.db@0x1000: found x (recover)",
			`{"code":"torn-tail","severity":"warning","path":"m.db","offset":4096,"detail":"found x","fix":"recover"}`},
		{Finding{Code: "option-twice", Severity: Error, Path: "imapd.conf", Offset: -1, Line: 3, Column: 7, Detail: "found x"},
			"error option-twice imapd.conf:3:7: found x",
			`{"code":"option-twice","severity":"error","path":"imapd.conf","offset":-1,"line":3,"column":7,"detail":"found x"}`},
		{Finding{Code: "gone", Severity: Damage, Path: "m.db", Offset: -1, Detail: "found x"}, "damage gone m.db: found x",
			`{"code":"gone","severity":"damage","path":"m.db","offset":-1,"detail":"found x"}`},
	} {
		require.Equal(t, c.text, c.f.String())
		b, err := json.Marshal(c.f)
		require.NoError(t, err)
		require.Equal(t, c.json, string(b))
	}
}
