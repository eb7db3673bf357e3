package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// verb describes one command on a database file.
type verb struct {
	use, short, long, example string
	// max is how many arguments may follow FILE, min how many must.
	min, max int
	// writes marks what changes or makes files: it has --dry-run.
	writes bool
	exits  map[int]string
	flags  func(*pflag.FlagSet)
	run    func(ss *session, args []string) error
}

func newDB(s streams) *cobra.Command {
	var f dbFlags
	db := &cobra.Command{
		Use:   "db",
		Short: "Work on one database file of Cyrus: skiplist, twoskip or flat",
		Long: "Work on one database file of Cyrus: skiplist, twoskip or flat. Cyrus's own programs may use it meanwhile.\n\n" +
			"Verbs only read, unless they say \"writes\"; a reading verb never changes a byte, not even to repair. Started as\n" +
			"root, mailspine becomes the owner of the store (of configdirectory with -C, else of the file's directory), as\n" +
			"Cyrus's programs do.",
		Args: cobra.ArbitraryArgs,
		RunE: needsCommand,
	}
	f.add(db.PersistentFlags())
	for _, v := range []verb{
		createVerb(), infoVerb(), showVerb(), getVerb(), setVerb(), deleteVerb(), batchVerb(), checkVerb(), recoverVerb(),
		repackVerb(), salvageVerb(), dumpVerb(), backupVerb(),
	} {
		db.AddCommand(f.command(v, s))
	}
	return db
}

// command makes the command of a verb.
func (f *dbFlags) command(v verb, s streams) *cobra.Command {
	c := &cobra.Command{Use: v.use, Short: v.short, Example: v.example}
	c.Long = v.long
	if c.Long == "" {
		c.Long = v.short + "."
	}
	c.Long += "\n\n" + exitHelp(v.exits)
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) < 1+v.min || len(args) > 1+v.max {
			return usageError("usage: %s", cmd.UseLine())
		}
		if args[0] == "" {
			return usageError("the file has no name")
		}
		return nil
	}
	if v.writes {
		c.Flags().BoolP("dry-run", "n", false, "say what would be done, and do nothing")
	}
	if v.flags != nil {
		v.flags(c.Flags())
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ss, err := f.newSession(cmd, args[0], s)
		if err != nil {
			return err
		}
		err = v.run(ss, args[1:])
		ss.line.Clear()
		return ss.hint(err)
	}
	return c
}

// readExits are the codes of a verb that reads.
func readExits(no string) map[int]string {
	return map[int]string{
		exitNo:     no,
		exitDamage: "the file is damaged: what was committed before the damage was read",
		exitFailed: "the file cannot be read: missing, not a database, no permission",
	}
}

// writeExits are the codes of a verb that writes.
func writeExits(no string) map[int]string {
	return map[int]string{
		exitOK:          "done, and on the disk",
		exitNo:          no,
		exitDamage:      "the file is damaged: it was not touched; see mailspine db salvage",
		exitFailed:      "it could not be done; the file is as it was, unless the message says that this is unknown",
		exitInterrupted: "interrupted; the file is as it was, or complete: run it again",
	}
}
