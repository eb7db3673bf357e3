package quota_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// wantedRoots are the numbers of all roots afterwards.
func (s *scenario) wantedRoots() map[string]string {
	if s.want == nil {
		return baseRight
	}
	return s.want
}

// TestCyrusSays plays every scenario through the real program. Where it is right it has the numbers that are wanted of us;
// where it is wrong it is wrong in the known way, so that a Cyrus that was mended is noticed.
func TestCyrusSays(t *testing.T) {
	realcyrus.NeedPrograms(t)
	for _, s := range scenarios() {
		t.Run(s.no, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, s.options())
			s.build(g)
			s.playTheirs(g.copy())
		})
	}
}

func (s *scenario) playTheirs(g *ground) {
	args := s.theirs
	if args == nil {
		args = []string{"-f"}
	}
	wrong := s.cyrus
	if wrong == nil {
		wrong = &verdict{}
	}
	before := g.rootTexts()
	out := g.real.Try(g.t, "quota", nil, args...)
	require.Equal(g.t, wrong.code, out.Code, out.Stderr)
	want, headers := maps.Clone(s.wantedRoots()), maps.Clone(s.headers)
	for root, numbers := range wrong.roots {
		require.NotEqual(g.t, want[root], numbers, "a verdict is of what is wrong")
		want[root] = numbers
		if numbers == gone {
			delete(want, root)
		}
	}
	maps.Copy(headers, wrong.headers)
	require.Equal(g.t, want, g.roots(), out.Stderr)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		require.Equal(g.t, headers[name], g.header(name), name)
	}
	if wrong.writes {
		require.NotEqual(g.t, before, g.rootTexts())
	}
}
