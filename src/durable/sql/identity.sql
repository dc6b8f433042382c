SELECT {is_here}()
