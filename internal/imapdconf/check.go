package imapdconf

import (
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Options say what [Check] looks at.
type Options struct {
	// FS is where the files are; nil is the operating system's.
	FS vfs.FS
	// Imapd is the path of imapd.conf, and Cyrus that of cyrus.conf. Without the second only the first is checked, and
	// the overrides of services are not known.
	Imapd, Cyrus string
	// ProgramDirs are where Cyrus's programs are, for the commands of cyrus.conf that have no absolute path. Without any
	// it is not checked whether they exist.
	ProgramDirs []string
}

// maxServices bounds for how many services the settings are looked at.
const maxServices = 100

// Check finds what is wrong with a configuration, in the order of files and lines.
func Check(o Options) []finding.Finding { return Findings(Problems(o)) }

// Problems is like [Check], in the form of this package.
func Problems(o Options) []*Problem {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	var list []*Problem
	var services []string
	if o.Cyrus != "" {
		master := ReadCyrus(o.FS, o.Cyrus)
		services = master.ServiceNames()
		list = append(list, master.Check(o)...)
	}
	list = append(list, checkImapd(o.FS, o.Imapd, services)...)
	return sorted(list)
}

// checkImapd looks at imapd.conf as a program without overrides sees it, and then as each service does that has some.
func checkImapd(fsys vfs.FS, path string, services []string) []*Problem {
	source := Read(fsys, path)
	if _, ok := source.read[path]; !ok {
		return source.Problems // what else is missing is missing because of that
	}
	c, _ := source.Config("")
	c.lint(services)
	c.checkDirs(fsys)
	list := c.Problems
	for _, service := range overriding(source, slices.Concat(services, programs)) {
		own, _ := source.Config(service)
		list = append(list, own.Problems...)
	}
	return list
}

// overriding returns the services for which there are settings.
func overriding(source *Source, services []string) (list []string) {
	wanted := map[string]bool{}
	for _, s := range services {
		wanted[strings.ToLower(s)] = true
	}
	for _, s := range source.Settings {
		for at := range min(len(s.Key), maxKey) {
			if s.Key[at] == '_' && wanted[s.Key[:at]] && len(list) < maxServices {
				wanted[s.Key[:at]] = false
				list = append(list, s.Key[:at])
			}
		}
	}
	return list
}

// sorted orders problems by place, and drops those that were found more than once.
func sorted(list []*Problem) []*Problem {
	files := map[string]int{}
	for _, p := range list {
		if _, ok := files[p.File]; !ok {
			files[p.File] = len(files)
		}
	}
	slices.SortStableFunc(list, func(a, b *Problem) int {
		for _, d := range []int{files[a.File] - files[b.File], a.Line - b.Line, a.Column - b.Column, strings.Compare(a.Code, b.Code)} {
			if d != 0 {
				return d
			}
		}
		return 0
	})
	return slices.CompactFunc(list, func(a, b *Problem) bool { return a.Pos == b.Pos && a.Code == b.Code })
}
