import static org.codelibs.opensearch.runner.OpenSearchRunner.newConfigs;

import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of OpenSearch that lives until its process ends. Arguments: folder, HTTP port, transport port. */
public class OpenSearchNode {
  public static void main(String[] args) throws Exception {
    OpenSearchRunner runner = new OpenSearchRunner();
    runner.onBuild((number, settings) -> {
      settings.put("http.host", "127.0.0.1");
      settings.put("http.port", args[1]);
      settings.put("transport.host", "127.0.0.1");
      settings.put("transport.port", args[2]);
      settings.put("discovery.type", "single-node");
      // A full disk of the machine is no matter of the tests.
      settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
    });
    runner.build(newConfigs().clusterName("adflow-test").numOfNode(1).basePath(args[0]));
    runner.ensureYellow();
    Thread.currentThread().join();
  }
}
