"""What drivers are written and tested with, those of other packages too: see docs/develop/add-a-driver.md."""
