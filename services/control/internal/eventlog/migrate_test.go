package eventlog

import (
	"sync"
	"testing"

	"github.com/verdict-io/verdict/services/internal/testenv"
)

// Several replicas' start scripts migrate at once.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	db := testenv.NewDatabase(t, migrate)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				if _, err := Migrate(t.Context(), db.OwnerURL, "", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
